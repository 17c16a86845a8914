//! deadnix: Nix code that is never used. Its JSON is one object a file.

use serde::Deserialize;

use super::{Input, Spot, Tool};

pub(crate) const TOOL: Tool =
    Tool { program: "deadnix", arguments: &["--output-format", "json", "."], input: Input::Folder, parse };

#[derive(Deserialize)]
struct File {
    file: String,
    results: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    line: u32,
    column: u32,
    message: String,
}

fn parse(printed: &str, _: &str) -> Result<Vec<Spot>, String> {
    let mut all = Vec::new();
    for file in serde_json::Deserializer::from_str(printed).into_iter::<File>() {
        let file = file.map_err(|error| error.to_string())?;
        all.extend(file.results.into_iter().map(|item| Spot {
            code: item.message.split(':').next().unwrap_or_default().to_lowercase().replace(' ', "-"),
            message: item.message,
            file: file.file.clone(),
            line: item.line,
            column: item.column,
            severity: None,
        }));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_prints_is_read() {
        // Printed by deadnix 1.3.1.
        let printed = r#"{"file":"./a.nix","results":[{"column":6,"endColumn":12,"line":1,"message":"Unused lambda pattern: unused"},{"column":20,"endColumn":21,"line":1,"message":"Unused let binding: y"}]}
{"file":"./b.nix","results":[]}"#;
        let all = parse(printed, "").unwrap();
        assert_eq!((all.len(), all[0].code.as_str(), all[1].column), (2, "unused-lambda-pattern", 20));
        assert!(parse("", "").unwrap().is_empty() && parse("{", "").is_err());
    }
}
