//! Going back on the real Docker Engine: by `workspace rollback`, and by a tag that moves.
//!
//! Needs the images that `scripts/images` builds. Nothing is skipped: without an engine or an image these tests fail.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/monitored.rs"]
mod monitored;
#[path = "support/servers.rs"]
mod servers;

use std::collections::BTreeSet;

use monitored::{Site, number_of};
use workspace::format::host::HostPhase;

/// A server that never answers.
const MUTE: (&str, &str) = ("server.js", "setInterval(() => {}, 1000)");

#[test]
fn docker_monitor_rollback_in_a_real_container() {
    let mut site = Site::new();
    let (name, tagged) = (site.name("back"), site.name("tagged"));
    site.flags
        .extend(["--ready-limit", "3", "--only", &name, "--only", &format!("{tagged}@staging")].map(str::to_owned));
    site.upload(&name, "one", &[]);
    site.upload(&tagged, "one", &[]);
    site.command(&["tag", &tagged, "staging"]);
    site.start();
    site.live(&name, 1);
    site.answers(&name, "/", "one");
    let good = |managed: &workspace::format::host::Managed| managed.good.as_ref().map(|good| good.row.number);
    site.wait(&name, "version 1 to be known as good", |managed| good(managed) == Some(1));
    let load = site.load(&name);

    // To what was served well, in place of what failed: a row of its own, through the whole pipeline.
    site.upload(&name, "mute", &[MUTE]);
    site.wait(&name, "the failure", |managed| managed.failure.as_ref().is_some_and(|failure| failure.bad));
    let said = site.command(&["rollback", &name, "--wait=1m", "--json"]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&said["version"], &said["origin"], &said["basis"]), (&3.into(), &1.into(), &"served".into()));
    assert_eq!(said["wait"]["outcome"], "served", "{said}");
    let managed = site.live(&name, 3);
    assert_eq!(managed.live.unwrap().row.origin, Some(1));
    site.answers(&name, "/", "one");
    // What failed is tried anew when somebody goes back to it: the rollback has another row.
    site.command(&["rollback", &name, "2"]);
    let failed = site.wait(&name, "the failure of the rollback", |managed| {
        managed.failure.as_ref().is_some_and(|failure| failure.number == 4 && failure.bad)
    });
    assert_eq!(number_of(&failed), 3, "{failed:#?}");
    assert_eq!(failed.bad.iter().map(|bad| bad.number).collect::<Vec<_>>(), [2, 4]);
    assert_eq!(load.unharmed(), BTreeSet::from(["one".to_owned()]));

    // A tag leads forward, to something that fails, back to what is live, and further back.
    site.live(&tagged, 1);
    site.upload(&tagged, "two", &[]);
    site.upload(&tagged, "mute", &[MUTE]);
    site.command(&["tag", &format!("{tagged}@2"), "staging", "--force"]);
    site.live(&tagged, 2);
    site.answers(&tagged, "/", "two");
    site.command(&["tag", &format!("{tagged}@3"), "staging", "--force"]);
    site.wait(&tagged, "the failure", |managed| managed.failure.as_ref().is_some_and(|failure| failure.bad));
    site.command(&["tag", &format!("{tagged}@2"), "staging", "--force"]);
    let managed = site.live(&tagged, 2);
    assert!(managed.phase.is_rest() || managed.phase == HostPhase::Drain, "{managed:#?}");
    site.command(&["tag", &format!("{tagged}@1"), "staging", "--force"]);
    site.live(&tagged, 1);
    site.answers(&tagged, "/", "one");
    assert!(site.terminate().success());
}
