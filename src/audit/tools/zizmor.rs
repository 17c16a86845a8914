//! zizmor: weak spots of workflows and actions. Its JSON is a list; rows and columns count from 0.

use serde::Deserialize;
use serde_json::Value;

use super::{Input, Spot, Tool};
use crate::base::note::Severity;

pub(crate) const TOOL: Tool = Tool {
    program: "zizmor",
    arguments: &["--offline", "--no-progress", "--format", "json", "."],
    input: Input::Workflows,
    parse,
};

#[derive(Deserialize)]
struct Item {
    ident: String,
    desc: String,
    #[serde(default)]
    determinations: Determinations,
    #[serde(default)]
    locations: Vec<Value>,
    #[serde(default)]
    ignored: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Determinations {
    severity: String,
}

fn parse(printed: &str, _: &str) -> Result<Vec<Spot>, String> {
    let all: Vec<Item> = serde_json::from_str(printed).map_err(|error| error.to_string())?;
    Ok(all.into_iter().filter(|item| !item.ignored).filter_map(spot).collect())
}

/// At its primary place, else the first.
fn spot(item: Item) -> Option<Spot> {
    let place =
        item.locations.iter().find(|place| place["symbolic"]["kind"] == "Primary").or(item.locations.first())?;
    let key = &place["symbolic"]["key"]["Local"];
    let file = key["verbatim_path"].as_str().or(key["given_path"].as_str())?;
    let start = &place["concrete"]["location"]["start_point"];
    let number = |name: &str| start[name].as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or(0);
    let said = place["symbolic"]["annotation"].as_str().unwrap_or_default();
    Some(Spot {
        code: item.ident,
        message: if said.is_empty() { item.desc } else { format!("{}: {said}", item.desc) },
        file: file.to_owned(),
        line: number("row").saturating_add(1),
        column: number("column").saturating_add(1),
        severity: Some(match item.determinations.severity.as_str() {
            "High" | "Medium" => Severity::Warning,
            _ => Severity::Notice,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_prints_is_read() {
        // Printed by zizmor 1.32.0, shortened.
        let printed = r#"[{"ident": "artipacked", "desc": "credential persistence", "determinations": {"confidence": "Low", "severity": "Medium"},
            "locations": [{"symbolic": {"key": {"Local": {"verbatim_path": "./.github/workflows/a.yml"}}, "annotation": "does not set persist-credentials: false", "kind": "Primary"},
            "concrete": {"location": {"start_point": {"row": 5, "column": 8}}}}], "ignored": false}]"#;
        let all = parse(printed, "").unwrap();
        assert_eq!((all[0].code.as_str(), all[0].line, all[0].column), ("artipacked", 6, 9));
        assert_eq!(all[0].file, "./.github/workflows/a.yml");
        assert!(parse(&printed.replace("false}]", "true}]"), "").unwrap().is_empty());
    }
}
