//! What `workspace` promises of requests and bytes. They don't depend on the machine, so they are asserted.

use crate::results::Cell;

/// Promises that a cell breaks.
pub fn broken(cell: &Cell) -> Vec<String> {
    let Some(traffic) = cell.tools.get("workspace").and_then(|cost| cost.traffic) else { return Vec::new() };
    let mut broken = Vec::new();
    let mut at_most = |what: &str, found: u64, limit: u64| {
        if found > limit {
            broken.push(format!("{}, {}, {}: {found} {what}, not {limit}", cell.tree, cell.link, cell.scenario));
        }
    };
    let packs = traffic.sent / (8 << 20) + 1;
    match cell.scenario.as_str() {
        "first upload" => {
            // The ref and the record of the bucket, the claim, what is left of an earlier one; a manifest and the swap. Packs of 1, 4
            // and then 16 MiB.
            at_most("requests", traffic.requests, 7 + packs);
            if let Some(tar) = cell.tools.get("tar-zstd").and_then(|cost| cost.traffic) {
                // A tenth more, and each file's line in the manifest: a digest, and what tells it from its neighbours.
                at_most("bytes sent", traffic.sent, tar.sent + tar.sent / 10 + 48 * cell.files as u64);
            }
        }
        "unchanged upload" => at_most("requests", traffic.requests, 2),
        "one file changed" => at_most("requests", traffic.requests, 4),
        "1 % changed" => at_most("requests", traffic.requests, 4 + packs),
        "download, up to date" => at_most("requests", traffic.requests, 3),
        name if name.contains("inserted") => at_most("bytes sent", traffic.sent, cell.bytes / 100),
        _ => {}
    }
    broken
}
