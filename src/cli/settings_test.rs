//! Compares the action files, `--help` and the documentation with the parsers. After an intended change,
//! `NIX_CACHE_TEST_RENEW=1 cargo test --lib cli::settings` rewrites the inputs of the action files; check the result.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Args, Command, CommandFactory, Id};
use serde_json::json;

use super::args::Cli;
use crate::action::audit_inputs::AuditInputs;
use crate::action::build_inputs::BuildInputs;
use crate::action::comment_inputs::CommentInputs;
use crate::action::dashboard_inputs::DashboardInputs;
use crate::action::given::{ActionInputs, InputError};
use crate::action::inputs::{FilesArgs, HistoryArgs, Inputs, SaveArgs};
use crate::action::plan_inputs::PlanInputs;
use crate::action::prune_inputs::PruneInputs;
use crate::action::push_inputs::PushInputs;
use crate::action::warm_inputs::WarmInputs;
use crate::app::settings::{FailArgs, PackingArgs, PushToArgs, RestoreArgs};

/// Names of arguments as inputs, where that is not their first name.
const NAMES: [&str; 5] = ["fail-on-cache-miss", "check-commands", "no-skip-cached", "no-retry-unbuilt", "nix-args"];
/// Second names of inputs, as actions/cache has them.
const SYNONYMS: [&str; 3] = ["key", "restore-keys", "path"];
/// Inputs that no parser sees: secrets, and what the hook reads.
const APART: [&str; 4] = ["signing-key", "token", "github-token", "binary"];

/// An action of ours: its file, its parser, the parser's arguments that are not its inputs, and how to read inputs.
struct Action {
    file: &'static str,
    command: Command,
    /// The arguments in their order, which changing one changes.
    order: Vec<Id>,
    without: BTreeSet<String>,
    apart: &'static [&'static str],
    read: fn(&str) -> Option<InputError>,
}

fn actions() -> [Action; 11] {
    let main = |json: &str| Inputs::from_json(json).err();
    let of = |command: Command| command.get_arguments().map(|arg| arg.get_id().to_string()).collect::<BTreeSet<_>>();
    let mut saves = of(HistoryArgs::augment_args(SaveArgs::augment_args(PackingArgs::augment_args(Command::new("")))));
    saves.extend(of(PushToArgs::augment_args(Command::new(""))));
    saves.insert("progressive".to_owned());
    let mut restores = of(FailArgs::augment_args(RestoreArgs::augment_args(Command::new(""))));
    restores.extend(["lookup_only", "restore_prefixes_first_match", "save", "guard", "progressive"].map(str::to_owned));
    let read_plan = |json: &str| PlanInputs::from_json(json).err();
    let read_audit = |json: &str| AuditInputs::from_json(json).err();
    let read_prune = |json: &str| PruneInputs::from_json(json).err();
    let read_push = |json: &str| PushInputs::from_json(json).err();
    let read_build = |json: &str| BuildInputs::from_json(json).err();
    let read_dashboard = |json: &str| DashboardInputs::from_json(json).err();
    let read_warm = |json: &str| WarmInputs::from_json(json).err();
    let read_comment = |json: &str| CommentInputs::from_json(json).err();
    let comment = CommentInputs::declared();
    let dashboard = DashboardInputs::declared();
    [
        action::<Inputs>("action.yml", Inputs::declared(), BTreeSet::new(), &APART, main),
        action::<Inputs>("restore/action.yml", Inputs::declared(), saves, &APART[1..], main),
        action::<Inputs>("save/action.yml", Inputs::declared(), restores, &APART, main),
        action::<PlanInputs>("plan/action.yml", PlanInputs::declared(), BTreeSet::new(), &APART, read_plan),
        action::<BuildInputs>("build/action.yml", BuildInputs::declared(), BTreeSet::new(), &APART[3..], read_build),
        action::<PruneInputs>("prune/action.yml", PruneInputs::declared(), BTreeSet::new(), &APART[1..], read_prune),
        action::<WarmInputs>("warm/action.yml", WarmInputs::declared(), BTreeSet::new(), &APART, read_warm),
        action::<PushInputs>(
            "push/action.yml",
            PushInputs::declared(),
            BTreeSet::new(),
            &["signing-key", "binary"],
            read_push,
        ),
        action::<AuditInputs>("audit/action.yml", AuditInputs::declared(), BTreeSet::new(), &APART[3..], read_audit),
        action::<CommentInputs>("comment/action.yml", comment, BTreeSet::new(), &APART[1..], read_comment),
        action::<DashboardInputs>("dashboard/action.yml", dashboard, BTreeSet::new(), &APART[1..], read_dashboard),
    ]
}

fn action<T: CommandFactory>(
    file: &'static str,
    command: Command,
    without: BTreeSet<String>,
    apart: &'static [&'static str],
    read: fn(&str) -> Option<InputError>,
) -> Action {
    let order = T::command().get_arguments().map(|arg| arg.get_id().clone()).collect();
    Action { file, command, order, without, apart, read }
}

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The long names of an argument.
fn names(arg: &Arg) -> impl Iterator<Item = &str> {
    arg.get_long().into_iter().chain(arg.get_all_aliases().into_iter().flatten())
}

/// The name that an argument has as an input.
fn input_name(arg: &Arg) -> &str {
    let name = names(arg).find(|name| NAMES.contains(name)).or(arg.get_long()).unwrap();
    name.strip_prefix("no-").unwrap_or(name)
}

fn decapitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// The description of an input, from the help of its argument.
fn description(arg: &Arg) -> String {
    let help = arg.get_help().unwrap().to_string();
    let (mut text, otherwise) = match help.split_once(" [default: ") {
        Some((text, default)) => (text.to_owned(), default.strip_suffix(']').unwrap().to_owned()),
        None => (help, String::new()),
    };
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        let value = if default(arg) == "true" { "false" } else { "true" };
        return format!("`{value}` to {}.", decapitalised(&text));
    }
    let values = arg.get_possible_values();
    let values: Vec<_> = values.iter().map(|value| (value.get_name(), value.get_help().unwrap().to_string())).collect();
    if !values.is_empty() {
        let values: Vec<_> = values.iter().map(|(name, help)| format!("`{name}` ({})", decapitalised(help))).collect();
        text = format!("{text}: {}", values.join(", "));
    }
    text.push('.');
    text.push_str(match (arg.get_action(), arg.get_value_delimiter()) {
        _ if input_name(arg) == "nix-args" => " Quoted as in a shell.",
        (ArgAction::Append, None) => " One per line.",
        (ArgAction::Append, Some(' ')) => " Separated by white space.",
        (ArgAction::Append, Some(_)) => " Separated by white space or commas.",
        _ => "",
    });
    text.push_str(match arg.get_value_names().and_then(|names| names.first()).map(clap::builder::Str::as_str) {
        Some("TIME") => " In seconds or as `1h30m`.",
        Some("SIZE") => " In bytes or as `500M` or `5G`.",
        _ => "",
    });
    if !otherwise.is_empty() && arg.get_default_values().is_empty() {
        text = format!("{text} Default: {otherwise}.");
    }
    text
}

fn default(arg: &Arg) -> String {
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        let is_opposite = names(arg).all(|name| name != input_name(arg));
        return is_opposite.to_string();
    }
    arg.get_default_values().iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>().join(" ")
}

fn entry(name: &str, description: &str, default: &str) -> String {
    let quoted = json!(description);
    format!("  {name}:\n    description: {quoted}\n    default: {}\n", json!(default))
}

/// The inputs of an action file, by name, each with its lines.
fn entries(file: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for line in inputs(file).lines() {
        match line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')) {
            Some(name) => found.push((name.trim_end_matches(':').to_owned(), format!("{line}\n"))),
            None => found.last_mut().unwrap().1.extend([line, "\n"]),
        }
    }
    found
}

/// What stands under `inputs:`.
fn inputs(file: &str) -> &str {
    let behind = file.split_once("\ninputs:\n").unwrap().1;
    behind.split_once("\noutputs:\n").unwrap().0
}

/// The inputs of an action as its parser has them. What no parser sees is taken from the file.
fn made(action: &Action, file: &str) -> String {
    let mut made = String::new();
    for id in &action.order {
        let arg = action.command.get_arguments().find(|arg| arg.get_id() == id).unwrap();
        if arg.is_hide_set() || action.without.contains(arg.get_id().as_str()) {
            continue;
        }
        made += &entry(input_name(arg), &description(arg), &default(arg));
        for synonym in names(arg).filter(|name| SYNONYMS.contains(name)) {
            let same = format!("The same as `{}`, under the name that actions/cache uses.", input_name(arg));
            made += &entry(synonym, &same, "");
        }
    }
    let apart = entries(file).into_iter().filter(|(name, _)| APART.contains(&&**name));
    made.extend(apart.map(|(_, lines)| lines));
    made.trim_end().to_owned()
}

#[test]
fn the_action_files_declare_what_the_parsers_say() {
    let is_renewed = std::env::var_os("NIX_CACHE_TEST_RENEW").is_some();
    for action in actions() {
        let path = repository().join(action.file);
        let file = fs::read_to_string(&path).unwrap();
        let made = made(&action, &file);
        if is_renewed {
            fs::write(&path, file.replace(inputs(&file), &made)).unwrap();
            continue;
        }
        for (made, declared) in made.lines().zip(inputs(&file).lines()) {
            assert_eq!(made, declared, "{}", action.file);
        }
        assert_eq!(made, inputs(&file), "{}", action.file);
        let apart = entries(&file).into_iter().map(|(name, _)| name).filter(|name| APART.contains(&&**name));
        let expected = action.apart.iter().map(|name| (*name).to_owned());
        assert_eq!(apart.collect::<BTreeSet<_>>(), expected.collect(), "{}", action.file);
    }
    assert!(!is_renewed, "The action files were written. Read them, and run the test without NIX_CACHE_TEST_RENEW.");
}

#[test]
fn declared_inputs_are_read_and_their_defaults_change_nothing() {
    for action in actions() {
        let file = fs::read_to_string(repository().join(action.file)).unwrap();
        for (name, lines) in entries(&file) {
            let default = lines.split("default: ").nth(1).unwrap_or("\"\"").trim();
            let default: String = serde_json::from_str(default).unwrap_or_else(|_| default.to_owned());
            assert_eq!((action.read)(&json!({ (&*name): default }).to_string()), None, "{}: {name}", action.file);
        }
        assert!(matches!((action.read)(r#"{"restore-mood": "x"}"#), Some(InputError::Unknown { .. })));
    }
}

#[test]
fn every_action_is_looked_at() {
    let folders = fs::read_dir(repository()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let files = folders.map(|folder| format!("{folder}/action.yml")).chain(["action.yml".to_owned()]);
    let found: BTreeSet<String> = files.filter(|file| repository().join(file).exists()).collect();
    let known = actions().map(|action| action.file.to_owned());
    // The hook is called by the others alone, and declares no settings.
    assert_eq!(found, known.into_iter().chain(["hook/action.yml".to_owned()]).collect());
}

#[test]
fn a_setting_of_an_action_is_the_same_on_the_command_line() {
    let cli = Cli::command();
    let only_inputs: BTreeSet<String> = FilesArgs::augment_args(SaveArgs::augment_args(Command::new("")))
        .get_arguments()
        .map(|arg| arg.get_id().to_string())
        .chain(
            [
                "share_with",
                "lookup_only",
                "history",
                "no_annotate",
                "no_summarize",
                "flake",
                "no_evaluate_once",
                "push_to",
                "guard",
                "progressive",
            ]
            .map(str::to_owned),
        )
        .collect();
    for (verbs, action) in [
        (&["restore", "save"][..], Inputs::declared()),
        (&["plan"], PlanInputs::declared()),
        (&["build"], BuildInputs::declared()),
        (&["audit"], AuditInputs::declared()),
        (&["comment"], CommentInputs::declared()),
        (&["dashboard"], DashboardInputs::declared()),
        (&["prune"], PruneInputs::declared()),
        (&["warm"], WarmInputs::declared()),
        (&["push"], PushInputs::declared()),
    ] {
        for input in action.get_arguments().filter(|arg| !arg.is_hide_set()) {
            let id = input.get_id();
            let commands = verbs.iter().map(|verb| cli.find_subcommand(verb).unwrap());
            let options: Vec<&Arg> =
                commands.flat_map(|verb| verb.get_arguments().filter(|arg| arg.get_id() == id)).collect();
            // On the command line, an audit is in no history.
            let of_history = verbs == ["audit"]
                && ["remote", "prefix_key", "trusted_public_keys", "require_signatures"].contains(&id.as_str());
            let is_input = only_inputs.contains(id.as_str()) || of_history;
            assert!(!options.is_empty() || is_input || id == "lane", "{id}");
            for option in options {
                let help = |arg: &Arg| arg.get_help().unwrap().to_string();
                // On the command line, a plan and a build work without a remote.
                let is_told_apart = ["remote", "targets"].contains(&id.as_str());
                assert!(is_told_apart || help(option) == help(input), "{id}");
                let differs = ["push_timeout", "save_timeout", "targets"].contains(&id.as_str());
                assert!(differs || option.get_default_values() == input.get_default_values(), "{id}");
            }
        }
    }
}

#[test]
fn an_option_is_the_same_for_every_command() {
    let cli = Cli::command();
    cli.clone().debug_assert();
    let mut texts: BTreeMap<&str, (&str, String)> = BTreeMap::new();
    // These mean something else to a plan, an audit, the history, a build of what a plan saved, or a comment.
    let own = ["base", "format", "include", "lane", "prefix_key", "pull_request", "remote", "rules", "targets"];
    for command in cli.get_subcommands() {
        for arg in command.get_arguments().filter(|arg| !own.contains(&arg.get_id().as_str())) {
            let text = (command.get_name(), arg.get_help().map(ToString::to_string).unwrap_or_default());
            let (first, known) = texts.entry(arg.get_id().as_str()).or_insert_with(|| text.clone());
            assert_eq!(*known, text.1, "{} of {first} and of {}", arg.get_id(), text.0);
        }
    }
    assert!(texts.len() > 30, "{texts:?}");
}

/// The texts of the documentation and of examples.
fn documents() -> Vec<(PathBuf, String)> {
    let folders = ["", "docs", "examples", ".github/workflows"].map(|folder| repository().join(folder));
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    let ending = |path: &Path| path.extension().is_some_and(|ending| ending == "md" || ending == "yml");
    files.filter(|path| ending(path)).map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn options_in_the_documentation_are_real() {
    let cli = Cli::command();
    let commands = cli.get_subcommands().chain([&cli]);
    let known: BTreeSet<&str> = commands.flat_map(Command::get_arguments).flat_map(names).collect();
    let of_nix = ["store", "key-name", "impure", "option", "version", "help", "accept-flake-config"];
    let mut seen = 0;
    for (path, text) in documents().iter().filter(|(path, _)| path.extension().is_some_and(|ending| ending == "md")) {
        for line in text.lines().filter(|line| line.contains("nix-cache ") || line.contains("`--")) {
            for word in line.split([' ', '`', '=', '"', '(', ')', ',']) {
                let Some(name) = word.strip_prefix("--").filter(|name| name.starts_with(char::is_alphabetic)) else {
                    continue;
                };
                assert!(known.contains(name) || of_nix.contains(&name), "{}: {line}", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 15, "{seen}");
}

#[test]
fn inputs_in_the_documentation_are_declared() {
    let mut seen = 0;
    for (path, text) in documents() {
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let Some((_, uses)) = line.split_once("uses: blazedots/nix-cache-action") else { continue };
            let part = uses.split('@').next().unwrap().trim_matches('/');
            // The inputs of a called workflow are compared by GitHub's parser, in scripts/lint-yaml.sh.
            let is_workflow = Path::new(part).extension().is_some_and(|ending| ending == "yml");
            if is_workflow {
                assert!(repository().join(part).is_file(), "{}: {part}", path.display());
                continue;
            }
            let action = repository().join(part).join("action.yml");
            let declared: BTreeSet<String> =
                entries(&fs::read_to_string(&action).unwrap()).into_iter().map(|(name, _)| name).collect();
            let Some(with) = lines.get(number + 1).filter(|next| next.trim() == "with:") else { continue };
            let indent = with.len() - with.trim_start().len();
            let depth = |line: &&&str| line.len() - line.trim_start().len();
            let inside = lines[number + 2..].iter().take_while(|line| depth(line) > indent);
            let own = inside.clone().next().map_or(0, |first| depth(&first));
            // Deeper ones are lines of a text.
            let inside = inside.filter(|line| depth(line) == own && !line.trim().starts_with('#'));
            for input in inside.filter_map(|line| line.trim().split_once(':')) {
                assert!(declared.contains(input.0), "{}: {}", path.display(), input.0);
                seen += 1;
            }
        }
    }
    assert!(seen > 5, "{seen}");
}
