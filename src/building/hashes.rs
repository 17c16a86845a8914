//! Hashes that do not fit: which one to put where, in whichever form the code has it, and which input of the flake it is about.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix_derivation::nixbase32;
use serde_json::Value;

use super::event::Message;
use super::failure::{Failure, Scene};
use crate::base::bounds::{MAX_TEXT, read_json};

/// Puts the place and the remedy into the failure of a hash that does not fit.
pub(super) fn mismatch(mut failure: Failure, message: &Message, scene: &Scene) -> Failure {
    let (specified, got) = hashes(&message.text);
    let (Some(specified), Some(got)) = (specified, got) else { return failure.at(scene.project.of_message(message)) };
    // Nix does not always say the two in this order when it is about an input.
    if let Some((hash, input)) = [&specified, &got].into_iter().find_map(|hash| Some((hash, input_with(hash, scene)?)))
    {
        failure.remedy = format!(
            "The input {input} is not what flake.lock says. If it was meant to change, run `nix flake update {input}`; if not, find out \
             why its server sends something else."
        );
        let position = scene.project.of_lock(hash);
        return failure.at(position);
    }
    failure.remedy =
        format!("If the download was meant to change, put {got} in place of {specified}. If not, find out why it did.");
    let position = forms(&specified).iter().find_map(|form| scene.project.of_text(form));
    failure.at(position.or_else(|| scene.project.of_message(message)))
}

/// The hash that was specified, and the one that Nix got.
fn hashes(text: &str) -> (Option<String>, Option<String>) {
    let behind = |name: &str| {
        let rest = text.split_once(name)?.1.trim_start();
        rest.split_whitespace().next().map(|hash| hash.trim_matches(['\'', ',', '"']).to_owned())
    };
    (behind("specified:").or_else(|| behind("expected ")), behind("got:").or_else(|| behind("got ")))
}

/// How code may write a hash that Nix prints: as it is, in base 64, base 32 and base 16; for one of zeros also as nothing at all.
fn forms(hash: &str) -> Vec<String> {
    let mut forms = vec![hash.to_owned()];
    let (kind, digits) = hash.split_once(['-', ':']).unwrap_or(("", hash));
    // Base 32 looks like base 64, and is longer than its hash would be there.
    let base32 = || nixbase32::decode(digits.as_bytes()).ok().filter(|bytes| matches!(bytes.len(), 20 | 32 | 64));
    let bytes = base32().or_else(|| STANDARD.decode(digits).ok());
    let Some(bytes) = bytes.filter(|bytes| bytes.len() >= 16) else { return forms };
    let base64 = STANDARD.encode(&bytes);
    forms.push(format!("{kind}-{base64}"));
    forms.push(nixbase32::encode(&bytes));
    forms.push(bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}")));
    forms.push(base64);
    if bytes.iter().all(|byte| *byte == 0) {
        let empty = [
            "fakeHash",
            "fakeSha256",
            "fakeSha512",
            "ash = \"\"",
            "ash=\"\"",
            "sha256 = \"\"",
            "sha256=\"\"",
            "sha512 = \"\"",
        ];
        forms.extend(empty.map(str::to_owned));
    }
    forms
}

/// The input of the flake that is locked to this hash, by the way to it from the flake: `nixpkgs` or `home-manager/nixpkgs`.
fn input_with(hash: &str, scene: &Scene) -> Option<String> {
    let lock: Value = read_json(&scene.project.flake.join("flake.lock"), MAX_TEXT).ok()?;
    let nodes = lock["nodes"].as_object()?;
    let has_hash = |node: &Value| node["locked"]["narHash"].as_str() == Some(hash);
    let inputs = |node: &str| nodes.get(node).and_then(|node| node["inputs"].as_object()).into_iter().flatten();
    let root = lock["root"].as_str()?;
    let (mut seen, mut queue) =
        (vec![root.to_owned()], std::collections::VecDeque::from([(root.to_owned(), String::new())]));
    while let Some((node, way)) = queue.pop_front() {
        for (name, target) in inputs(&node) {
            // What follows another input is found there.
            let Some(target) = target.as_str().filter(|target| !seen.iter().any(|node| node == target)) else {
                continue;
            };
            let way = if way.is_empty() { name.clone() } else { format!("{way}/{name}") };
            if nodes.get(target).is_some_and(has_hash) {
                return Some(way);
            }
            seen.push(target.to_owned());
            queue.push_back((target.to_owned(), way));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_known_in_every_form() {
        let all = forms("sha256-oWIb6VBAI57hQ2LBbiBRDdwg9SfXctgjsqFnmzP1zXQ=");
        for form in [
            "a1621be95040239ee14362c16e20510ddc20f527d772d823b2a1679b33f5cd74",
            "oWIb6VBAI57hQ2LBbiBRDdwg9SfXctgjsqFnmzP1zXQ=",
        ] {
            assert!(all.iter().any(|known| known == form), "{form}: {all:?}");
        }
        // What Nix 2.8 writes in base 32 is the same hash.
        let nix32 = all.iter().find(|form| form.len() == 52).unwrap();
        assert!(forms(&format!("sha256:{nix32}")).contains(&all[0]));
        assert!(!all.iter().any(|form| form == "fakeHash"));
        assert!(forms("sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").iter().any(|form| form == "fakeHash"));
        assert_eq!(forms("x"), ["x"]);
    }
}
