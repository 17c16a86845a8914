//! Nix's log for programs (`--log-format internal-json`): one JSON object a line behind `@nix `. The numbers are those of
//! `ActivityType` and `ResultType` in Nix's `logging.hh`; they are the same from Nix 2.8 to 2.34.

use serde::Deserialize;
use serde_json::Value;

use super::text::{self, plain};

/// A line of the log.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Line {
    /// Something that Nix tells.
    Event(Event),
    /// A line that is not an event: from a hook, a plugin or a crash.
    Text(String),
}

/// Something that Nix tells.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// Work begins.
    Start {
        /// Its number until it stops.
        id: u64,
        /// What it is.
        activity: Activity,
    },
    /// Work ends.
    Stop { id: u64 },
    /// A builder printed a line.
    Line {
        /// The build's number.
        id: u64,
        /// The line, plain.
        text: String,
    },
    /// A builder entered a phase.
    Phase {
        /// The build's number.
        id: u64,
        /// The phase.
        name: String,
    },
    /// How far something is.
    Progress {
        id: u64,
        /// Done, expected, running, failed.
        counts: [u64; 4],
    },
    /// Nix says something to the user.
    Said(Message),
    /// An event that is not needed here.
    Other,
}

/// A kind of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Activity {
    /// A derivation is built.
    Build {
        /// Its store path.
        derivation: String,
    },
    /// A path comes from a substituter.
    Substitute {
        /// The store path.
        path: String,
        /// The substituter.
        from: String,
    },
    /// A path is copied from store to store.
    Copy {
        /// The store path.
        path: String,
        /// Where from.
        from: String,
    },
    /// A file is downloaded.
    Download {
        /// Its address.
        url: String,
    },
    /// All builds together: its progress counts them.
    Builds,
    /// Something else.
    Other,
}

/// A message of Nix for the user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// 0 for errors, 1 for warnings, more for what matters less.
    pub level: u64,
    /// The text, plain, with the trace.
    pub text: String,
    /// The error alone, plain; empty where Nix does not part them.
    pub error: String,
    /// The file that it is about, as Nix names it.
    pub file: Option<String>,
    pub line: Option<u32>,
    pub column: Option<u32>,
    /// For an error: the lines outside of Nix's log that came before it, such as those of Git.
    pub heard: Vec<String>,
}

impl Message {
    /// Whether it says that something failed. Nix says other things at the same level.
    #[must_use]
    pub(crate) fn is_error(&self) -> bool {
        self.level == 0 && self.text.trim_start().starts_with("error:")
    }
}

#[derive(Deserialize)]
struct Raw {
    action: String,
    #[serde(default)]
    id: u64,
    #[serde(default, rename = "type")]
    kind: u64,
    #[serde(default)]
    fields: Vec<Value>,
    #[serde(default)]
    level: u64,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    #[allow(clippy::struct_field_names, reason = "this is what Nix calls it")]
    raw_msg: Option<String>,
    #[serde(default)]
    file: Option<String>,
    #[serde(default)]
    line: Option<u32>,
    #[serde(default)]
    column: Option<u32>,
}

/// Parses one line. Never fails: a line that is not an event is a text, and an unknown event is [`Event::Other`].
#[must_use]
pub(crate) fn parse(line: &str) -> Line {
    let Some(json) = line.strip_prefix("@nix ") else { return Line::Text(text::line(line)) };
    match serde_json::from_str::<Raw>(json) {
        Ok(raw) => Line::Event(meaning(raw)),
        Err(_) => Line::Text(text::line(line)),
    }
}

fn meaning(raw: Raw) -> Event {
    let id = raw.id;
    match (raw.action.as_str(), raw.kind) {
        ("start", kind) => Event::Start { id, activity: activity(kind, &raw.fields) },
        ("stop", _) => Event::Stop { id },
        ("result", 101 | 107) => Event::Line { id, text: text::line(field(&raw.fields, 0)) },
        ("result", 104) => Event::Phase { id, name: plain(field(&raw.fields, 0)) },
        ("result", 105) => {
            let count = |index: usize| raw.fields.get(index).and_then(Value::as_u64).unwrap_or(0);
            Event::Progress { id, counts: [count(0), count(1), count(2), count(3)] }
        }
        ("msg", _) => Event::Said(Message {
            level: raw.level,
            text: plain(&raw.msg),
            error: plain(raw.raw_msg.as_deref().unwrap_or_default()),
            file: raw.file,
            line: raw.line,
            column: raw.column,
            heard: Vec::new(),
        }),
        _ => Event::Other,
    }
}

fn activity(kind: u64, fields: &[Value]) -> Activity {
    let text = |index: usize| field(fields, index).to_owned();
    match kind {
        100 => Activity::Copy { path: text(0), from: text(1) },
        101 => Activity::Download { url: text(0) },
        104 => Activity::Builds,
        105 => Activity::Build { derivation: text(0) },
        108 => Activity::Substitute { path: text(0), from: text(1) },
        _ => Activity::Other,
    }
}

fn field(fields: &[Value], index: usize) -> &str {
    fields.get(index).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(line: &str) -> Event {
        match parse(line) {
            Line::Event(event) => event,
            Line::Text(text) => panic!("{text} is not an event"),
        }
    }

    #[test]
    fn the_lines_of_both_versions_are_understood() {
        let old = r#"@nix {"action":"start","fields":["/nix/store/x-ok.drv","",1,1],"id":7,"level":3,"text":"building","type":105}"#;
        let new = r#"@nix {"action":"start","fields":["/nix/store/x-ok.drv","",1,1],"id":7,"level":3,"parent":0,"text":"building","type":105}"#;
        for line in [old, new] {
            let activity = Activity::Build { derivation: "/nix/store/x-ok.drv".into() };
            assert_eq!(event(line), Event::Start { id: 7, activity });
        }
        assert_eq!(event(r#"@nix {"action":"stop","id":7}"#), Event::Stop { id: 7 });
        let line = r#"@nix {"action":"result","fields":["\u001b[1mhello\u001b[0m"],"id":7,"type":101}"#;
        assert_eq!(event(line), Event::Line { id: 7, text: "hello".into() });
        let line = r#"@nix {"action":"result","fields":[1,2,3,4],"id":8,"type":105}"#;
        assert_eq!(event(line), Event::Progress { id: 8, counts: [1, 2, 3, 4] });
        let line = r#"@nix {"action":"msg","column":34,"file":"/f.nix","level":0,"line":3,"msg":"\u001b[31;1merror:\u001b[0m x","raw_msg":"x"}"#;
        let Event::Said(said) = event(line) else { panic!() };
        assert_eq!((said.text.as_str(), said.error.as_str(), said.line), ("error: x", "x", Some(3)));
        let line = r#"@nix {"action":"msg","column":null,"file":null,"level":1,"line":null,"msg":"warning"}"#;
        assert!(matches!(event(line), Event::Said(Message { level: 1, file: None, .. })));
    }

    #[test]
    fn what_is_no_event_is_a_text() {
        assert_eq!(parse("terminate called\n"), Line::Text("terminate called".into()));
        assert_eq!(parse("@nix {\"action\":"), Line::Text("@nix {\"action\":".into()));
        assert_eq!(parse("@nix {\"action\":\"result\",\"type\":999}"), Line::Event(Event::Other));
    }

    proptest! {
        #[test]
        fn nothing_breaks_it(line in any::<String>(), kind in 0_u64..120, id in any::<u64>()) {
            let _ = parse(&line);
            let _ = parse(&format!("@nix {line}"));
            let quoted = serde_json::to_string(&line).unwrap();
            for action in ["start", "result", "msg"] {
                let json = format!(r#"@nix {{"action":"{action}","id":{id},"type":{kind},"fields":[{quoted},1],"msg":{quoted}}}"#);
                prop_assert!(matches!(parse(&json), Line::Event(_)));
            }
        }
    }
}
