//! Names in other systems' alphabets: DNS labels, Compose projects, Traefik routers, addresses seen from a container.

use std::collections::BTreeMap;

use super::Application;
use crate::names::{MAX_NAME, WorkspaceName};

/// Four letters that tell names apart which would otherwise look the same.
fn four_letters(text: &str) -> String {
    let hash = blake3::hash(text.as_bytes());
    hash.as_bytes().iter().take(4).map(|byte| char::from(b'a' + byte % 26)).collect()
}

/// The name as a DNS label: itself where it is one, else with `-` for what a label can't have and four letters of the
/// name's hash behind it.
pub fn dns_label(name: &WorkspaceName) -> String {
    let name = name.as_str();
    let plain = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-';
    if name.chars().all(plain) && !name.ends_with('-') {
        return name.to_owned();
    }
    let letters = four_letters(name);
    let mut label: String = name.chars().map(|character| if plain(character) { character } else { '-' }).collect();
    label.truncate(MAX_NAME - letters.len() - 1);
    format!("{label}-{letters}")
}

/// The Compose project: one per set of workspaces.
pub(super) fn project(applications: &[Application]) -> String {
    match applications {
        [one] => format!("workspace-{}", dns_label(&one.selector.name)),
        several => {
            let names: Vec<&str> = several.iter().map(|application| application.selector.name.as_str()).collect();
            format!("workspaces-{}", four_letters(&names.join(" ")))
        }
    }
}

/// Labels for Traefik's Docker provider.
pub(super) fn traefik(label: &str, domains: &[String], port: u16, network: Option<&str>) -> BTreeMap<String, String> {
    let rule = domains.iter().map(|domain| format!("Host(`{domain}`)")).collect::<Vec<_>>().join(" || ");
    let mut labels = BTreeMap::from([
        ("traefik.enable".to_owned(), "true".to_owned()),
        (format!("traefik.http.routers.{label}.rule"), rule),
        (format!("traefik.http.services.{label}.loadbalancer.server.port"), port.to_string()),
    ]);
    if let Some(network) = network {
        labels.insert("traefik.docker.network".to_owned(), network.to_owned());
    }
    labels
}

/// An endpoint on this machine's loopback as a container reaches it: through Docker's gateway.
pub fn seen_from_container(endpoint: &str) -> String {
    let Some((scheme, rest)) = endpoint.split_once("://") else {
        return endpoint.to_owned();
    };
    let (authority, path) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            (host, format!(":{port}"))
        }
        _ => (authority, String::new()),
    };
    let loopback = host == "localhost" || host == "[::1]" || host == "0.0.0.0" || host.starts_with("127.");
    if loopback { format!("{scheme}://host.docker.internal{port}{path}") } else { endpoint.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_altered_only_where_they_must() {
        let label = |name: &str| dns_label(&name.parse().unwrap());
        assert_eq!(label("my-app1"), "my-app1");
        for name in ["my.app", "my_app", "myapp-", &"a.".repeat(31)] {
            let found = label(name);
            assert!(
                found.len() <= 63 && found.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'),
                "{found}"
            );
            assert_ne!(found, name);
        }
        assert_ne!(label("my.app"), label("my_app"));
        // Containers are found again by this: it may never change.
        assert_eq!(label("my.app"), "my-app-iejn");
    }

    #[test]
    fn loopback_is_the_gateway_inside() {
        for (endpoint, seen) in [
            ("http://127.0.0.1:9000", "http://host.docker.internal:9000"),
            ("http://localhost:9000/", "http://host.docker.internal:9000/"),
            ("http://[::1]:9000", "http://host.docker.internal:9000"),
            ("https://s3.example.com", "https://s3.example.com"),
            ("http://minio:9000", "http://minio:9000"),
        ] {
            assert_eq!(seen_from_container(endpoint), seen);
        }
    }
}
