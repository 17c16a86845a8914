//! Versions in the order of Nix. Source: `compareVersions` in the Nix manual and `src/libstore/names.cc`.

use std::cmp::Ordering;

/// Compares two versions as `builtins.compareVersions` does: component by component, numbers as numbers, `pre` before everything.
pub(crate) fn compare(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (Components(one), Components(other));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return Ordering::Equal,
            (a, b) => {
                let (a, b) = (a.unwrap_or(""), b.unwrap_or(""));
                if before(a, b) {
                    return Ordering::Less;
                }
                if before(b, a) {
                    return Ordering::Greater;
                }
            }
        }
    }
}

/// Runs of digits, and runs of anything else without dots and dashes.
struct Components<'a>(&'a str);

impl<'a> Iterator for Components<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.0 = self.0.trim_start_matches(['.', '-']);
        let is_digit = self.0.chars().next()?.is_ascii_digit();
        let ends = |c: char| c.is_ascii_digit() != is_digit || matches!(c, '.' | '-');
        let end = self.0.find(ends).unwrap_or(self.0.len());
        let (component, rest) = self.0.split_at(end);
        self.0 = rest;
        Some(component)
    }
}

fn before(one: &str, other: &str) -> bool {
    match (number(one), number(other)) {
        (Some(one), Some(other)) => one.len().cmp(&other.len()).then_with(|| one.cmp(other)).is_lt(),
        (None, Some(_)) if one.is_empty() => true,
        _ if one == "pre" && other != "pre" => true,
        _ if other == "pre" => false,
        (None, Some(_)) => true,
        (Some(_), None) => false,
        (None, None) => one < other,
    }
}

/// The digits of a number of any length, without leading zeros.
fn number(component: &str) -> Option<&str> {
    let is_number = !component.is_empty() && component.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| component.trim_start_matches('0'))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const VERSIONS: [&str; 22] = [
        "",
        "0",
        "1",
        "1.0",
        "1.00",
        "1.0.0",
        "1.0a",
        "1.0pre",
        "1.0pre1",
        "1.0-pre",
        "1.0.1",
        "1.1",
        "1.10",
        "1.9",
        "2.3a",
        "2.3c",
        "2.3q",
        "unstable-2024-01-01",
        "2024-01-01",
        "3.0.0-rc1",
        "3.0.0-alpha",
        "é",
    ];

    #[test]
    fn the_order_is_that_of_nix() {
        let list = format!("[ {} ]", VERSIONS.map(|version| format!("\"{version}\"")).join(" "));
        let expression = format!("let l = {list}; in map (a: map (b: builtins.compareVersions a b) l) l");
        let mut nix = Command::new("nix-instantiate");
        let Ok(output) = nix.args(["--eval", "--strict", "--json", "--expr", &expression]).output() else {
            eprintln!("there is no Nix on this machine");
            return;
        };
        let expected: Vec<Vec<i8>> = serde_json::from_slice(&output.stdout).unwrap();
        for (a, row) in VERSIONS.iter().zip(expected) {
            for (b, expected) in VERSIONS.iter().zip(row) {
                assert_eq!(compare(a, b) as i8, expected, "{a:?} and {b:?}");
            }
        }
    }

    #[test]
    fn numbers_of_any_length_are_compared() {
        assert_eq!(compare("20240101000000000000000000001", "20240101000000000000000000002"), Ordering::Less);
        assert_eq!(compare("1.010", "1.9"), Ordering::Greater);
    }
}
