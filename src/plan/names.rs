//! The names that a pattern without a target may have been meant for.

use super::AttrPath;
use super::discover::Broken;

/// Most names that are shown.
const MOST: usize = 3;

/// Whether a pattern may be about something whose names cannot be listed.
pub(super) fn unknown(pattern: &str, broken: &[Broken]) -> bool {
    broken.iter().any(|broken| {
        let names = broken.attr.names().iter();
        let parts = pattern.split('.');
        pattern.split('.').count() == 1
            || names.zip(parts).all(|(name, part)| part == name || part.contains(['*', '{', '[', '?']))
    })
}

/// The names of targets that are most like a pattern, as a sentence with a space before it; empty where there is none.
pub(super) fn nearest(pattern: &str, targets: &[AttrPath]) -> String {
    let is_alone = !pattern.contains('.');
    let mut all: Vec<(usize, String)> = targets
        .iter()
        .map(|target| {
            let whole = target.to_string();
            let compared = if is_alone { target.last() } else { &whole };
            (distance(pattern, compared), whole)
        })
        .collect();
    all.sort();
    let names: Vec<String> = all.into_iter().take(MOST).map(|(_, name)| format!("`{name}`")).collect();
    if names.is_empty() { " It has none.".to_owned() } else { format!(" Nearest are {}.", names.join(", ")) }
}

/// How many letters have to be put in, taken out or changed to make one text of the other. Source: Wagner and Fischer, 1974.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.chars().enumerate() {
        let mut before = at;
        row[0] = at + 1;
        for (place, compared) in other.iter().enumerate() {
            let changed = before + usize::from(letter != *compared);
            before = row[place + 1];
            row[place + 1] = changed.min(row[place] + 1).min(before + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spelled_alike_is_named_first() {
        let all = [
            "nixosConfigurations.desk",
            "nixosConfigurations.laptop",
            "packages.x86_64-linux.tool",
            "checks.x86_64-linux.a",
        ];
        let all = all.map(|name| AttrPath::parse(name).unwrap());
        assert!(
            nearest("dsk", &all).starts_with(" Nearest are `nixosConfigurations.desk`"),
            "{}",
            nearest("dsk", &all)
        );
        assert!(nearest("nixosConfiguration.laptop", &all).starts_with(" Nearest are `nixosConfigurations.laptop`"));
        assert_eq!(nearest("x", &[]), " It has none.");
        assert_eq!((distance("kitten", "sitting"), distance("", "ab"), distance("a", "a")), (3, 2, 0));
    }
}
