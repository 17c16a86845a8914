//! Tests of [`super`]: tables, properties, and that the action files declare just the inputs that are read.

use proptest::prelude::*;
use secrecy::ExposeSecret;
use serde_json::json;

use super::*;

fn read(name: &str, value: &str) -> Result<Inputs, InputError> {
    Inputs::from_json(&json!({ name: value }).to_string())
}

/// All that was read, with what is secret, to be compared.
fn whole(inputs: &Inputs) -> (String, [Option<String>; 2]) {
    let secret = [&inputs.token, &inputs.signing_key].map(|text| Some(text.as_ref()?.expose_secret().to_owned()));
    (format!("{inputs:?}"), secret)
}

#[test]
fn the_declared_inputs_are_those_that_are_read_and_their_defaults_are_ours() {
    let ours = Inputs::from_json("{}").unwrap();
    for (file, at_least) in [
        (include_str!("../../action.yml"), 25),
        (include_str!("../../restore/action.yml"), 20),
        (include_str!("../../save/action.yml"), 15),
    ] {
        let declared = declared(file);
        assert!(declared.len() >= at_least, "{declared:?}");
        let object: BTreeMap<_, _> = declared.iter().cloned().collect();
        assert_eq!(whole(&Inputs::from_json(&serde_json::to_string(&object).unwrap()).unwrap()), whole(&ours));
        for (name, _) in &declared {
            assert!(!matches!(read(name, "x"), Err(InputError::Unknown { .. })), "{name}");
        }
    }
}

#[test]
fn the_main_action_declares_all_that_can_be_read() {
    let declared = declared(include_str!("../../action.yml"));
    let source = include_str!("inputs.rs").split("struct Given").next().unwrap();
    let hooks = ["action", "matrix", "job-status", "signing-key-digest"];
    for piece in source.split("given.").skip(1) {
        for name in piece.split('"').skip(1).step_by(2).filter(|name| !hooks.contains(name)) {
            assert!(declared.iter().any(|(input, _)| input == name), "{name} is read, but not declared");
        }
    }
}

#[test]
fn defaults() {
    let inputs = Inputs::from_json("{}").unwrap();
    assert_eq!((inputs.action, inputs.save, inputs.include), (Action::Both, SaveWhen::Always, Include::All));
    assert_eq!((inputs.eval_cache, inputs.summarize, inputs.lookup_only), (true, true, false));
    assert_eq!((inputs.save_timeout, inputs.compression_level), (Duration::from_mins(10), 4));
    assert_eq!((inputs.token.is_none(), inputs.max_size, inputs.matrix), (true, None, Value::Null));
}

#[test]
fn values_are_read_and_trimmed() {
    let inputs = Inputs::from_json(
        &json!({
            "key": " k ", "restore-keys": "a\n b\n", "fail-on": "primary-key.miss, first-match.not-restored",
            "fail-on-cache-miss": "true", "save": "on-success", "max-size": "5G", "save-timeout": "1h30m",
            "compression-level": 7, "eval-cache": false, "github-token": "t0ken", "env-vars": "CC CXX",
            "matrix": "{\"os\":\"linux\"}", "job-status": "failure", "restore-mode": "unpack", "include": "not-upstream",
        })
        .to_string(),
    )
    .unwrap();
    assert_eq!((inputs.primary_key.as_deref(), inputs.restore_prefixes.len()), (Some("k"), 2));
    let conditions = [FailOn::PrimaryKeyMiss, FailOn::FirstMatchMiss, FailOn::FirstMatchNotRestored];
    assert_eq!(inputs.fail_on, BTreeSet::from(conditions));
    assert_eq!((inputs.max_size, inputs.save_timeout), (Some(5 << 30), Duration::from_mins(90)));
    assert_eq!((inputs.compression_level, inputs.eval_cache), (7, false));
    assert_eq!(inputs.token.as_ref().unwrap().expose_secret(), "t0ken");
    assert_eq!((inputs.env_vars.len(), inputs.matrix["os"].as_str()), (2, Some("linux")));
    assert_eq!((inputs.restore_mode, inputs.include), (RestoreMode::Unpack, Include::NotUpstream));
    assert!(!inputs.may_save());
}

#[test]
fn an_unknown_value_names_the_input_the_value_and_what_it_takes() {
    for (input, value, takes) in [
        ("save", "sometimes", "auto, always, on-success, never, true, false"),
        ("eval-cache", "yes", "true, false"),
        ("eval-cache", "True", "true, false"),
        ("include", "upstream", "not-upstream"),
        ("max-size", "5GB", "500M"),
        ("save-timeout", "soon", "10m"),
        ("compression-level", "23", "1 to 22"),
        ("restore-mode", "copy", "unpack"),
        ("fail-on", "primary-key.mis", "primary-key.miss"),
        ("fail-on-cache-miss", "1", "true, false"),
    ] {
        let message = read(input, value).unwrap_err().to_string();
        for part in [input, value, takes] {
            assert!(message.contains(part), "{part:?} is missing in {message:?}");
        }
    }
    assert!(read("sav", "true").unwrap_err().to_string().contains("\"sav\""));
    assert!(read("save", "").is_ok());
    assert!(matches!(Inputs::from_json("[]"), Err(InputError::Form(_))));
}

#[test]
fn synonyms_may_agree_and_must_not_differ() {
    for (first, second) in [
        ("primary-key", "key"),
        ("restore-prefixes-first-match", "restore-keys"),
        ("paths", "path"),
        ("token", "github-token"),
    ] {
        let both = |one: &str, other: &str| Inputs::from_json(&json!({ first: one, second: other }).to_string());
        let expected = whole(&read(first, "x").unwrap());
        assert_eq!(whole(&both("x", "x").unwrap()), expected);
        assert_eq!(whole(&both("", "x").unwrap()), expected);
        let error = both("s3cret-1", "s3cret-2").unwrap_err();
        assert_eq!(error, InputError::Conflict { first, second });
        assert!(!error.to_string().contains("s3cret"));
    }
}

#[test]
fn fail_on_says_which_condition_holds() {
    use FailOn::{FirstMatchMiss, FirstMatchNotRestored, PrimaryKeyMiss, PrimaryKeyNotRestored};
    for (condition, fails) in [
        (PrimaryKeyMiss, [false, false, true, true]),
        (PrimaryKeyNotRestored, [false, true, true, true]),
        (FirstMatchMiss, [false, false, false, true]),
        (FirstMatchNotRestored, [false, true, false, true]),
    ] {
        let inputs = read("fail-on", &condition.to_string()).unwrap();
        let cases = [(Hit::Exact, true), (Hit::Exact, false), (Hit::Partial, true), (Hit::Miss, false)];
        let found = cases.map(|(hit, restored)| inputs.failure(hit, restored) == Some(condition));
        assert_eq!(found, fails, "{condition}");
    }
}

#[test]
fn who_may_save() {
    for (action, save, status, may) in [
        ("both", "auto", "failure", true),
        ("both", "on-success", "success", true),
        ("both", "on-success", "cancelled", false),
        ("both", "never", "success", false),
        ("restore", "always", "success", false),
        ("save", "false", "success", false),
        ("save", "true", "failure", true),
    ] {
        let inputs = Inputs::from_json(&json!({"action": action, "save": save, "job-status": status}).to_string());
        assert_eq!(inputs.unwrap().may_save(), may, "{action} {save} {status}");
    }
}

proptest! {
    #[test]
    fn any_value_of_any_input_is_read_or_refused(value in any::<String>(), which in 0_usize..26) {
        let declared = declared(include_str!("../../action.yml"));
        let (name, _) = &declared[which % declared.len()];
        if let Err(error) = read(name, &value) {
            prop_assert!(error.to_string().contains(name.as_str()));
        }
    }

    #[test]
    fn a_token_is_never_shown(token in "[A-Za-z0-9_]{12,60}") {
        let inputs = read("token", &token).unwrap();
        let shown = format!("{inputs:?}");
        prop_assert!(!shown.contains(&token));
        let broken = format!("{{\"token\": \"{token}\",}}");
        prop_assert!(!Inputs::from_json(&broken).unwrap_err().to_string().contains(&token));
        let deep = json!({"token": [token]}).to_string();
        prop_assert!(!Inputs::from_json(&deep).unwrap_err().to_string().contains(&token));
    }
}
