//! A bill of materials: `CycloneDX` 1.5 in JSON, of the packages of the audit.
//!
//! It is reproducible: the same closure gives the same bytes, so there is no time in it, and its serial number is made of the paths.
//! The reference of a component is its store path. `pkg:nix/NAME@VERSION` is a convention, not a registered type. Licences and CPE
//! are there only where the package says them.

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::super::packages::{Package, Source};

/// A whole file.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Bom<'a> {
    #[serde(rename = "bomFormat")]
    format: &'static str,
    spec_version: &'static str,
    serial_number: String,
    version: u32,
    metadata: Metadata,
    components: Vec<Component<'a>>,
}

#[derive(Debug, Serialize)]
struct Metadata {
    tools: Tools,
}

#[derive(Debug, Serialize)]
struct Tools {
    components: [Tool; 1],
}

#[derive(Debug, Serialize)]
struct Tool {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'static str,
    version: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Component<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(rename = "bom-ref")]
    reference: String,
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    version: &'a str,
    purl: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpe: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<Licence<'a>>,
    properties: [Property; 1],
}

#[derive(Debug, Serialize)]
struct Licence<'a> {
    expression: &'a str,
}

#[derive(Debug, Serialize)]
struct Property {
    name: &'static str,
    value: &'static str,
}

/// The packages as a bill of materials.
pub(crate) fn bom<'a>(packages: &'a [Package], store_dir: &str) -> Bom<'a> {
    let mut sorted: Vec<&Package> = packages.iter().collect();
    sorted.sort_by(|one, other| one.path.cmp(&other.path));
    sorted.dedup_by(|one, other| one.path == other.path);
    let mut hash = Sha256::new();
    for package in &sorted {
        hash.update(package.path.as_bytes());
        hash.update(b"\n");
    }
    Bom {
        format: "CycloneDX",
        spec_version: "1.5",
        serial_number: serial(&hash.finalize()),
        version: 1,
        metadata: Metadata {
            tools: Tools {
                components: [Tool { kind: "application", name: "nix-cache", version: env!("CARGO_PKG_VERSION") }],
            },
        },
        components: sorted.into_iter().map(|package| component(package, store_dir)).collect(),
    }
}

fn component<'a>(package: &'a Package, store_dir: &str) -> Component<'a> {
    let version = if package.version.is_empty() { String::new() } else { format!("@{}", encode(&package.version)) };
    Component {
        kind: "library",
        reference: format!("{store_dir}/{}", package.path),
        name: &package.name,
        version: &package.version,
        purl: format!("pkg:nix/{}{version}", encode(&package.name)),
        cpe: package.cpe.as_deref().filter(|cpe| super::super::feed::cpe::parse(cpe).is_some()),
        licenses: package.licence.iter().map(|expression| Licence { expression }).collect(),
        properties: [Property {
            name: "nix-cache:known-from",
            value: match package.source {
                Source::Evaluation => "evaluation",
                Source::Derivation => "derivation",
                Source::Name => "name",
            },
        }],
    }
}

/// A UUID of version 8, made of a hash.
fn serial(hash: &[u8]) -> String {
    let mut bytes: Vec<u8> = hash.iter().copied().take(16).collect();
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    format!("urn:uuid:{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::testing::package;

    #[test]
    fn the_same_packages_give_the_same_bytes() {
        let all = vec![package("a", "1"), package("c++", "")];
        let turned: Vec<Package> = all.iter().rev().cloned().chain(all.clone()).collect();
        let json = |all: &[Package]| serde_json::to_string(&bom(all, "/nix/store")).unwrap();
        assert_eq!(json(&all), json(&turned));
        assert!(json(&all).contains("\"pkg:nix/c%2B%2B\"") && json(&all).contains("\"pkg:nix/a@1\""), "{}", json(&all));
        assert_ne!(json(&all), json(&all[..1]));
    }
}
