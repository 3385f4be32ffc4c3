//! The keys that say where and how large it runs: `domains`, `replicas`, `volumes`, `ports`, `memory`, `cpus`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_yaml::Value;

use super::{Problem, text};

/// Most containers of one workspace on one host.
pub(super) const MAX_REPLICAS: u16 = 32;
/// Longest host name, as DNS has it.
const MAX_DOMAIN: usize = 253;
/// Below this no runtime starts.
const LEAST_MEMORY: f64 = 16.0 * 1024.0 * 1024.0;
/// Folders of the container that are the image's own business.
const TAKEN: [&str; 4] = ["/", "/app", "/cache", "/tmp"];

/// The caches of package managers are volumes, too, and called by their names.
const CACHES: [&str; 9] = ["npm", "pnpm", "yarn", "bun", "pip", "uv", "poetry", "composer", "bundler"];

fn wrong<T>(reason: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::Value(reason.into()))
}

/// One host name, or several: lowered, without repetition.
pub(super) fn domains(value: Value) -> Result<Vec<String>, Problem> {
    let values = if let Value::Sequence(items) = value { items } else { vec![value] };
    let mut domains = Vec::new();
    for value in values {
        let domain = domain(&text(value)?)?;
        if !domains.contains(&domain) {
            domains.push(domain);
        }
    }
    Ok(domains)
}

fn domain(text: &str) -> Result<String, Problem> {
    let name = text.to_ascii_lowercase();
    if name.contains("://") {
        return wrong(format!("has `{text}`: a host name alone, without `http://`"));
    }
    if name.contains('/') {
        return wrong(format!("has `{text}`: a host name alone, without a path"));
    }
    if name.contains(':') {
        return wrong(format!("has `{text}`: a host name alone, without a port"));
    }
    if name.starts_with('*') {
        return wrong(format!("has `{text}`: every name has to be listed, `*` is not known here"));
    }
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(plain) && !label.starts_with('-') && !label.ends_with('-')
    };
    if name.len() > MAX_DOMAIN || !name.split('.').all(is_label) {
        return wrong(format!("has `{text}`, which is no host name such as `shop.example.com`"));
    }
    Ok(name)
}

pub(super) fn replicas(value: &Value) -> Result<u16, Problem> {
    let number = value.as_u64().and_then(|number| u16::try_from(number).ok());
    match number.filter(|number| (1..=MAX_REPLICAS).contains(number)) {
        Some(number) => Ok(number),
        None => wrong(format!("must be a number from 1 to {MAX_REPLICAS}")),
    }
}

/// `name: /path` lines, or a list of `name:/path`.
pub(super) fn volumes(value: Value) -> Result<BTreeMap<String, String>, Problem> {
    const SHAPE: &str = "must be `name: /path` lines, or a list of `name:/path`";
    let pairs = match value {
        Value::Mapping(mapping) => mapping
            .into_iter()
            .map(|(name, path)| Ok((text(name)?, text(path)?)))
            .collect::<Result<Vec<_>, Problem>>()
            .or_else(|_| wrong(SHAPE))?,
        Value::Sequence(items) => items
            .into_iter()
            .map(|item| {
                let item = text(item).or_else(|_| wrong(SHAPE))?;
                item.split_once(':')
                    .map(|(name, path)| (name.trim().to_owned(), path.trim().to_owned()))
                    .ok_or_else(|| Problem::Value(format!("has `{item}`, and {SHAPE}")))
            })
            .collect::<Result<Vec<_>, Problem>>()?,
        _ => return wrong(SHAPE),
    };
    let mut volumes = BTreeMap::new();
    for (name, path) in pairs {
        // No `-`: Docker's name for it is `workspace-NAME-VOLUME`, and names of workspaces have that.
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if name.contains('/') {
            return wrong(format!(
                "has `{name}`, a folder of the host, which can't be had: a volume has a name, as in `data:/data`"
            ));
        }
        if name.is_empty() || !name.bytes().all(plain) || name.starts_with('_') {
            return wrong(format!("has `{name}`, which is no volume's name: a-z, 0-9, `_`, a letter or digit first"));
        }
        if CACHES.contains(&name.as_str()) {
            return wrong(format!("has `{name}`, which is what the cache of {name} is called; take another name"));
        }
        let path = mount_point(&name, &path)?;
        if volumes.values().any(|other| *other == path) {
            return wrong(format!("has two volumes at `{path}`"));
        }
        if volumes.insert(name.clone(), path).is_some() {
            return wrong(format!("has `{name}` twice"));
        }
    }
    Ok(volumes)
}

/// An absolute path in the container, cleaned.
fn mount_point(name: &str, text: &str) -> Result<String, Problem> {
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    // Compose would read on after a `:`.
    let plain = text.chars().all(|character| !character.is_control() && character != ':');
    if !text.starts_with('/') || parts.contains(&"..") || !plain {
        return wrong(format!(
            "puts `{name}` at `{text}`, which is no absolute path in the container such as `/{name}`"
        ));
    }
    let path = format!("/{}", parts.join("/"));
    let Some(taken) =
        TAKEN.into_iter().find(|taken| Path::new(&path).starts_with(taken) && (*taken != "/" || path == "/"))
    else {
        return Ok(path);
    };
    if path == taken {
        return wrong(format!(
            "puts `{name}` at `{path}`, which the container needs itself; take another folder, such as `/{name}`"
        ));
    }
    let why = if taken == "/app" {
        "which belongs to each version alone and goes with it"
    } else {
        "which the container needs itself"
    };
    wrong(format!("puts `{name}` at `{path}`, below `{taken}`, {why}; take a folder outside, such as `/{name}`"))
}

/// One fixed port of the host, or several, as Docker writes them.
pub(super) fn ports(value: Value) -> Result<Vec<String>, Problem> {
    let values = if let Value::Sequence(items) = value { items } else { vec![value] };
    let mut ports: Vec<String> = Vec::new();
    for value in values {
        let port = text(value)?;
        if host_port(&port).is_none() {
            return wrong(format!(
                "has `{port}`, which isn't HOST:CONTAINER such as `5432:5432` or `127.0.0.1:53:53/udp`"
            ));
        }
        if ports.iter().any(|other| host_port(other) == host_port(&port)) {
            return wrong(format!("has one port of the host twice, in `{port}`"));
        }
        ports.push(port);
    }
    Ok(ports)
}

/// Address, port and protocol on the host. `None` where the text is no such thing.
fn host_port(text: &str) -> Option<(&str, u16, &str)> {
    let (addresses, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (host, container) = addresses.rsplit_once(':')?;
    let (address, host) = host.rsplit_once(':').unwrap_or(("", host));
    let number = |text: &str| {
        text.parse::<u16>().ok().filter(|port| *port > 0 && text.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let plain = address.is_empty()
        || address.parse::<std::net::Ipv4Addr>().is_ok()
        || address.strip_prefix('[')?.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().is_ok();
    number(container)?;
    (plain && ["tcp", "udp"].contains(&protocol)).then_some((address, number(host)?, protocol))
}

/// A size as Docker writes it.
pub(super) fn memory(value: Value) -> Result<String, Problem> {
    let size = text(value)?.to_ascii_lowercase();
    let unit = size.trim_start_matches(|character: char| character.is_ascii_digit() || character == '.');
    let factor = match unit {
        "" | "b" => Some(1.0),
        "k" | "kb" => Some(1024.0),
        "m" | "mb" => Some(1024.0 * 1024.0),
        "g" | "gb" => Some(1024.0 * 1024.0 * 1024.0),
        _ => None,
    };
    let number: Option<f64> = size[..size.len() - unit.len()].parse().ok();
    match (number, factor) {
        (Some(number), Some(factor)) if number * factor >= LEAST_MEMORY => Ok(size),
        (Some(_), Some(_)) => wrong(format!("must be at least `16m`, not `{size}`")),
        _ => wrong(format!("must be a size such as `512m` or `2g`, not `{size}`")),
    }
}

/// A number of processors.
pub(super) fn cpus(value: Value) -> Result<String, Problem> {
    let text = text(value)?;
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    // The Engine counts in billionths; less than a hundredth is a slip.
    if plain && text.parse::<f64>().is_ok_and(|number| number >= 0.01) {
        return Ok(text);
    }
    wrong(format!("must be a number of processors such as `1.5`, not `{text}`"))
}
