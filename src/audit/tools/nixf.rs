//! nixf-tidy: what the language server nixd knows of one file. Its JSON is a list; lines and columns count from 0.

use serde::Deserialize;

use super::{Input, Spot, Tool};
use crate::base::note::Severity;

pub(crate) const TOOL: Tool =
    Tool { program: "nixf-tidy", arguments: &["--variable-lookup"], input: Input::EachFile, parse };

#[derive(Deserialize)]
struct Item {
    sname: String,
    #[serde(default)]
    severity: u32,
    message: String,
    #[serde(default)]
    args: Vec<String>,
    range: Range,
}

#[derive(Deserialize)]
struct Range {
    #[serde(rename = "lCur")]
    start: Cursor,
}

#[derive(Deserialize)]
struct Cursor {
    line: u32,
    column: u32,
}

fn parse(printed: &str, file: &str) -> Result<Vec<Spot>, String> {
    let all: Vec<Item> = serde_json::from_str(printed).map_err(|error| error.to_string())?;
    let spot = |item: Item| Spot {
        code: item.sname,
        message: item.args.iter().fold(item.message, |text, argument| text.replacen("{}", argument, 1)),
        file: file.to_owned(),
        line: item.range.start.line.saturating_add(1),
        column: item.range.start.column.saturating_add(1),
        // 0 and 1 are errors, 2 is a warning, more are hints.
        severity: Some(if item.severity <= 2 { Severity::Warning } else { Severity::Notice }),
    };
    Ok(all.into_iter().map(spot).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_prints_is_read() {
        // The form of nixd 2.7, by its source.
        let printed = r#"[{"args": ["x"], "fixes": [], "kind": 35, "message": "undefined variable `{}`", "notes": [], "severity": 1,
            "sname": "sema-undefined-variable", "tag": [], "range": {"lCur": {"column": 0, "line": 0, "offset": 0}, "rCur": {"column": 1, "line": 0, "offset": 1}}}]"#;
        let all = parse(printed, "a.nix").unwrap();
        assert_eq!((all[0].message.as_str(), all[0].line, all[0].column), ("undefined variable `x`", 1, 1));
        assert!(parse("[]", "").unwrap().is_empty() && parse("{}", "").is_err());
    }
}
