//! Licences: from `meta.license` in all its forms to an SPDX expression, and whether a policy allows one.

use serde_json::Value;
use spdx::{Expression, LicenseReq, Licensee, ParseMode};

use super::policy::Lists;

/// Deepest nesting of compound licences.
const DEEPEST: u8 = 16;

/// `meta.license` as an SPDX expression: an attribute set, a list, a text, or a compound of them. What has no SPDX identifier
/// becomes `LicenseRef-nixpkgs-NAME`. None where nothing is said.
pub(crate) fn expression(license: &Value, lists: Lists) -> Option<String> {
    let text = compound(license, lists, DEEPEST)?;
    // Whatever a package says, what comes out is an expression.
    parse(&text).map(|_| text)
}

/// Whether a text is an SPDX expression.
pub(crate) fn is_expression(text: &str) -> bool {
    parse(text).is_some()
}

/// An expression that may use identifiers of old, such as `GPL-2.0`.
fn parse(text: &str) -> Option<Expression> {
    Expression::parse_mode(text, ParseMode::LAX).ok()
}

fn compound(license: &Value, lists: Lists, depth: u8) -> Option<String> {
    let depth = depth.checked_sub(1)?;
    match license {
        Value::String(text) => Some(of_text(text)),
        Value::Array(all) => joined(all, if lists == Lists::And { "AND" } else { "OR" }, lists, depth),
        Value::Object(fields) => {
            let text = |name: &str| fields.get(name).and_then(Value::as_str);
            if let Some(Value::Array(all)) = fields.get("licenses") {
                let operator = if text("operator") == Some("OR") { "OR" } else { "AND" };
                return joined(all, operator, lists, depth);
            }
            if let Some(inner) = fields.get("license") {
                let inner = compound(inner, lists, depth)?;
                return Some(match (text("operator"), fields.get("exception")) {
                    (Some("WITH"), Some(exception)) => with(&inner, exception),
                    (Some("+" | "PLUS"), _) if parse(&format!("{inner}+")).is_some() => format!("{inner}+"),
                    _ => inner,
                });
            }
            match (text("spdxId").filter(|id| is_identifier(id)), text("shortName").or(text("spdxId"))) {
                (Some(id), _) => Some(id.to_owned()),
                (None, Some(name)) => Some(reference("LicenseRef", name)),
                (None, None) => None,
            }
        }
        _ => None,
    }
}

/// Several licences; nothing where one of them is not known, since a part is not the whole.
fn joined(all: &[Value], operator: &str, lists: Lists, depth: u8) -> Option<String> {
    let mut parts: Vec<String> = Vec::new();
    for one in all {
        let part = compound(one, lists, depth)?;
        let part = if part.contains(" OR ") || part.contains(" AND ") { format!("({part})") } else { part };
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    if parts.is_empty() { None } else { Some(parts.join(&format!(" {operator} "))) }
}

fn with(license: &str, exception: &Value) -> String {
    let id = ["spdxId", "shortName"].iter().find_map(|name| exception.get(name)?.as_str());
    let Some(id) = id.or(exception.as_str()) else { return license.to_owned() };
    let plain = format!("{license} WITH {id}");
    if parse(&plain).is_some() { plain } else { format!("{license} WITH {}", reference("AdditionRef", id)) }
}

/// A text may be an identifier, an expression, or a word of somebody's.
fn of_text(text: &str) -> String {
    if parse(text).is_some() { text.to_owned() } else { reference("LicenseRef", text) }
}

/// Exceptions have SPDX identifiers as well, but are not licences.
fn is_identifier(id: &str) -> bool {
    parse(id).is_some() && !id.contains(' ')
}

fn reference(kind: &str, name: &str) -> String {
    let clean = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '-' };
    format!("{kind}-nixpkgs-{}", name.chars().take(100).map(clean).collect::<String>())
}

/// Licences that a policy names.
#[derive(Clone, Debug, Default)]
pub(crate) struct LicenceList(Vec<Licensee>);

impl LicenceList {
    /// The licences with these identifiers, each with an exception (`… WITH …`) where it has one.
    ///
    /// # Errors
    /// The identifier that is none.
    pub(crate) fn parse<'a>(all: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let one = |text: &'a str| Licensee::parse_mode(text, ParseMode::LAX).map_err(|_| text.to_owned());
        all.into_iter().map(one).collect::<Result<_, _>>().map(Self)
    }

    fn has(&self, wanted: &LicenseReq) -> bool {
        self.0.iter().any(|licence| licence.satisfies(wanted))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Whether an expression can be met by licences that are allowed (all of them, where `allow` is empty) and not denied.
pub(crate) fn is_allowed(text: &str, allow: &LicenceList, deny: &LicenceList) -> bool {
    parse(text).is_some_and(|it| it.evaluate(|wanted| !deny.has(wanted) && (allow.is_empty() || allow.has(wanted))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(license: &Value) -> Option<String> {
        expression(license, Lists::And)
    }

    #[test]
    fn every_form_of_a_licence_becomes_an_expression() {
        let (mit, apache) =
            (json!({"spdxId": "MIT", "shortName": "mit"}), json!({"spdxId": "Apache-2.0", "shortName": "asl20"}));
        let unfree = json!({"spdxId": null, "shortName": "unfree"});
        let llvm = json!({"spdxId": "LLVM-exception", "shortName": "llvm-exception"});
        for (license, expected) in [
            (mit.clone(), "MIT"),
            (json!({"spdxId": "GPL-2.0", "shortName": "gpl2"}), "GPL-2.0"),
            (unfree.clone(), "LicenseRef-nixpkgs-unfree"),
            // An exception alone is not a licence.
            (llvm.clone(), "LicenseRef-nixpkgs-llvm-exception"),
            (json!({"spdxId": "NCUL1", "shortName": "ncul1"}), "LicenseRef-nixpkgs-ncul1"),
            (json!([mit.clone(), apache.clone(), mit.clone()]), "MIT AND Apache-2.0"),
            (json!([mit.clone()]), "MIT"),
            (json!("MIT OR Zlib"), "MIT OR Zlib"),
            (json!("as you like it"), "LicenseRef-nixpkgs-as-you-like-it"),
            (
                json!({"operator": "OR", "licenses": [mit.clone(), {"operator": "AND", "licenses": [apache.clone(), unfree]}]}),
                "MIT OR (Apache-2.0 AND LicenseRef-nixpkgs-unfree)",
            ),
            (
                json!({"operator": "WITH", "license": apache.clone(), "exception": llvm}),
                "Apache-2.0 WITH LLVM-exception",
            ),
            (
                json!({"operator": "WITH", "license": apache, "exception": {"shortName": "our own"}}),
                "Apache-2.0 WITH AdditionRef-nixpkgs-our-own",
            ),
            (json!({"operator": "+", "license": {"spdxId": "EUPL-1.1"}}), "EUPL-1.1+"),
            (json!({"operator": "+", "license": {"shortName": "mine"}}), "LicenseRef-nixpkgs-mine"),
        ] {
            assert_eq!(of(&license).as_deref(), Some(expected), "{license}");
        }
        for nothing in [json!(null), json!([]), json!({}), json!(3), json!([mit, null])] {
            assert_eq!(of(&nothing), None, "{nothing}");
        }
    }

    #[test]
    fn lists_can_be_read_either_way_and_nesting_is_bounded() {
        let list = json!([{"spdxId": "MIT"}, {"spdxId": "Zlib"}]);
        assert_eq!(expression(&list, Lists::Or).unwrap(), "MIT OR Zlib");
        let mut deep = json!({"spdxId": "MIT"});
        for _ in 0..40 {
            deep = json!([deep]);
        }
        assert_eq!(of(&deep), None);
    }

    #[test]
    fn policies_decide_as_cargo_deny_does() {
        let list = |all: &[&str]| LicenceList::parse(all.iter().copied()).unwrap();
        let (permissive, none) = (list(&["MIT", "Apache-2.0", "LicenseRef-nixpkgs-publicDomain"]), list(&[]));
        for (text, allowed) in [
            ("MIT", true),
            ("MIT OR GPL-3.0-only", true),
            ("MIT AND GPL-3.0-only", false),
            ("Apache-2.0 WITH LLVM-exception", false),
            ("LicenseRef-nixpkgs-publicDomain", true),
            ("LicenseRef-nixpkgs-unfree", false),
        ] {
            assert_eq!(is_allowed(text, &permissive, &none), allowed, "{text}");
        }
        let deny = list(&["AGPL-3.0-only"]);
        assert!(is_allowed("MIT", &none, &deny) && !is_allowed("AGPL-3.0-only", &none, &deny));
        assert!(is_allowed("AGPL-3.0-only OR MIT", &none, &deny));
        assert_eq!(LicenceList::parse(["MIT", "not one"]).unwrap_err(), "not one");
    }
}
