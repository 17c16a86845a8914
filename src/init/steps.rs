//! The steps of a workflow that call an action, and the jobs that call a workflow. Reads lines instead of YAML: enough to say at which line
//! an action is used and with which inputs, and nothing is changed by what is found.

/// One `uses:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Uses {
    /// The number of the line, from 1.
    pub line: usize,
    /// What is called, without its version: `actions/cache/restore`.
    pub action: String,
    /// The names and values of its inputs; text of several lines is joined.
    pub inputs: Vec<(String, String)>,
}

/// Returns every `uses:` of a workflow.
pub(crate) fn uses_in(workflow: &str) -> Vec<Uses> {
    let lines: Vec<&str> = workflow.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(action) = called(line) else { continue };
        if line.trim_start().trim_start_matches('-').trim_start().starts_with('{') {
            let with = line.split_once("with:").and_then(|(_, with)| with.split_once('{'));
            found.push(Uses { line: at + 1, action, inputs: with.map(|(_, with)| flow(with)).unwrap_or_default() });
            continue;
        }
        // The keys of the step are at the column of `uses`, which a dash may precede.
        let column = column_of_key(line);
        let before = lines[..at].iter().rposition(|line| starts_step(line, column));
        let from = if line.trim_start().starts_with('-') { at } else { before.unwrap_or(at) };
        let end = lines[at + 1..].iter().position(|line| ends_step(line, column));
        let to = end.map_or(lines.len(), |end| at + 1 + end);
        found.push(Uses { line: at + 1, action, inputs: inputs(&lines[from..to], column) });
    }
    found
}

/// The action that a line calls, if it calls one of another repository.
fn called(line: &str) -> Option<String> {
    let text = line.trim_start();
    let text = text.strip_prefix('-').map_or(text, str::trim_start);
    let text = text.strip_prefix('{').map_or(text, str::trim_start);
    let value = text.strip_prefix("uses:")?.trim_start().trim_start_matches(['"', '\'']);
    let end = value
        .find(|c: char| c == '@' || c == '"' || c == '\'' || c == '#' || c == ',' || c == '}' || c.is_whitespace());
    let action = &value[..end.unwrap_or(value.len())];
    (action.contains('/') && !action.starts_with(['.', '$'])).then(|| action.to_owned())
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// The column of the key of a line, behind a dash if there is one.
fn column_of_key(line: &str) -> usize {
    let text = line.trim_start();
    let behind = text.strip_prefix('-').map_or(text, str::trim_start);
    line.len() - behind.len()
}

fn is_empty(line: &str) -> bool {
    line.trim_start().is_empty() || line.trim_start().starts_with('#')
}

fn starts_step(line: &str, column: usize) -> bool {
    !is_empty(line) && (column_of_key(line) == column && line.trim_start().starts_with('-') || indent(line) < column)
}

fn ends_step(line: &str, column: usize) -> bool {
    !is_empty(line) && indent(line) < column
}

/// The entries of the `with:` of a step.
fn inputs(step: &[&str], column: usize) -> Vec<(String, String)> {
    let is_with = |line: &&str| {
        column_of_key(line) == column && line.trim_start().trim_start_matches('-').trim_start().starts_with("with:")
    };
    let Some(at) = step.iter().position(is_with) else { return Vec::new() };
    if let Some((_, flow_text)) = step[at].split_once('{') {
        return flow(flow_text);
    }
    let mut found: Vec<(String, String)> = Vec::new();
    let mut inner = None;
    for line in step[at + 1..].iter().filter(|line| !is_empty(line)) {
        if indent(line) <= column {
            break;
        }
        let inner = *inner.get_or_insert(indent(line));
        match (entry(line), found.last_mut()) {
            (Some(entry), _) if indent(line) == inner => found.push(entry),
            (_, Some((_, value))) => {
                value.push(' ');
                value.push_str(line.trim());
            }
            _ => {}
        }
    }
    found
}

/// The entries of a mapping in braces, of which `text` is the part behind the opening one.
fn flow(text: &str) -> Vec<(String, String)> {
    text.split('}').next().unwrap_or_default().split(',').filter_map(entry).collect()
}

fn entry(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    let name = name.trim().trim_matches(['"', '\'']);
    let value = value.trim().trim_start_matches(['|', '>']).trim_matches(['"', '\'']);
    (!name.is_empty() && !name.contains(' ')).then(|| (name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKFLOW: &str = r#"
jobs:
  call:
    uses: DeterminateSystems/ci/.github/workflows/workflow.yml@main
    with:
      runner-map: |
        {"x86_64-linux": "big"}
      fail-fast: false
  build:
    steps:
      - uses: actions/checkout@v5
      # - uses: Mic92/hestia@v3
      - name: Cache
        with:
          key: nix-${{ hashFiles('flake.lock') }}
          path: |
            /nix
            ~/.cache/nix
        uses: "actions/cache@v4"   # later
      - uses: ./local
      - { uses: cachix/cachix-action@v16, with: { name: mine } }
      -   uses: nix-community/cache-nix-action/restore@abc
          with: { primary-key: "a", save: false }
      - run: echo "uses: no/thing"
"#;

    #[test]
    fn steps_and_called_workflows_are_found_with_their_inputs() {
        let found = uses_in(WORKFLOW);
        let names: Vec<(usize, &str)> = found.iter().map(|uses| (uses.line, &*uses.action)).collect();
        assert_eq!(
            names,
            [
                (4, "DeterminateSystems/ci/.github/workflows/workflow.yml"),
                (11, "actions/checkout"),
                (19, "actions/cache"),
                (21, "cachix/cachix-action"),
                (22, "nix-community/cache-nix-action/restore"),
            ]
        );
        let of = |at: usize| found[at].inputs.iter().map(|(name, value)| (&**name, &**value)).collect::<Vec<_>>();
        assert_eq!(of(0), [("runner-map", " {\"x86_64-linux\": \"big\"}"), ("fail-fast", "false")]);
        assert_eq!(of(1), []);
        assert_eq!(of(2), [("key", "nix-${{ hashFiles('flake.lock') }}"), ("path", " /nix ~/.cache/nix")]);
        assert_eq!(of(3), [("name", "mine")]);
        assert_eq!(of(4), [("primary-key", "a"), ("save", "false")]);
    }

    #[test]
    fn any_text_is_read_without_a_crash() {
        for text in [
            "",
            "uses:",
            "- uses: a/b",
            "-",
            "  with:",
            "uses: a/b\nwith:\n",
            "- uses: ü/ß@\n  with: {",
            "\t- uses: a/b\n\twith:\n\t x",
        ] {
            let _ = uses_in(text);
        }
    }
}
