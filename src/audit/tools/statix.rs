//! statix: patterns that are better written otherwise. Its JSON is one object a file.

use serde::Deserialize;

use super::{Input, Spot, Tool};

pub(crate) const TOOL: Tool =
    Tool { program: "statix", arguments: &["check", "--format", "json", "."], input: Input::Folder, parse };

#[derive(Deserialize)]
struct File {
    file: String,
    report: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    note: String,
    code: u32,
    diagnostics: Vec<Diagnostic>,
}

#[derive(Deserialize)]
struct Diagnostic {
    at: Span,
    message: String,
}

#[derive(Deserialize)]
struct Span {
    from: Position,
}

#[derive(Deserialize)]
struct Position {
    line: u32,
    column: u32,
}

fn parse(printed: &str, _: &str) -> Result<Vec<Spot>, String> {
    let mut all = Vec::new();
    for file in serde_json::Deserializer::from_str(printed).into_iter::<File>() {
        let File { file, report } = file.map_err(|error| error.to_string())?;
        for Item { note, code, diagnostics } in report {
            all.extend(diagnostics.into_iter().map(|it| Spot {
                code: format!("W{code:02}"),
                message: format!("{note}: {}", it.message),
                file: file.clone(),
                line: it.at.from.line,
                column: it.at.from.column,
                severity: None,
            }));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_prints_is_read() {
        // The form of statix 0.5.8, by its source.
        let printed = r#"{"file": "./a.nix", "report": [{"note": "Unnecessary comparison with boolean", "code": 1, "diagnostics": [
            {"at": {"from": {"line": 3, "column": 5}, "to": {"line": 3, "column": 14}}, "message": "Comparing `x` with boolean literal `true`", "suggestion": null}]}]}
            {"file": "./b.nix", "report": []}"#;
        let all = parse(printed, "").unwrap();
        assert_eq!((all.len(), all[0].code.as_str(), all[0].line, all[0].column), (1, "W01", 3, 5));
        assert!(parse("statix: error", "").is_err());
    }
}
