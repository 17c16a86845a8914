//! Which Nix system this is.

use std::env::consts;

use super::KeyError;

/// The Nix system that this program was built for, as `x86_64-linux` or `aarch64-darwin`.
#[must_use]
pub(crate) fn current_system() -> String {
    name(consts::ARCH, consts::OS)
}

/// What Nix calls the architecture and the operating system that Rust calls `arch` and `os`.
fn name(arch: &str, os: &str) -> String {
    let arch = match arch {
        "x86" => "i686",
        "arm" => "armv7l",
        other => other,
    };
    let os = if os == "macos" { "darwin" } else { os };
    format!("{arch}-{os}")
}

/// Checks that `system` is two words with one dash between them. A key can only be cut at its parts when it is known where
/// the system ends.
///
/// # Errors
/// [`KeyError::System`] when it is something else.
pub(super) fn check(system: &str) -> Result<(), KeyError> {
    let word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match system.split_once('-') {
        Some((arch, os)) if word(arch) && word(os) && system.len() <= 32 => Ok(()),
        _ => Err(KeyError::System { system: system.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_nix() {
        assert_eq!(name("x86_64", "linux"), "x86_64-linux");
        assert_eq!(name("aarch64", "macos"), "aarch64-darwin");
        assert_eq!(name("x86", "linux"), "i686-linux");
        assert!(check(&current_system()).is_ok());
    }

    #[test]
    fn only_two_words_are_a_system() {
        for wrong in ["", "linux", "-linux", "x86_64-", "x86_64-linux-musl", "x86 64-linux", "x86_64-linux\n"] {
            assert!(check(wrong).unwrap_err().to_string().contains("input system"), "{wrong:?}");
        }
    }
}
