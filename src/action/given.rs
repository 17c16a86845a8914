//! Reads the inputs of the actions, one JSON object of strings in the variable [`NIX_CACHE_INPUTS`]:
//!
//! 1. Tokens and keys are removed. The parser never sees them, so its messages cannot contain them.
//! 2. Each other input becomes an argument of the same name: `--NAME=VALUE`, one for each element of a list, or a flag. An empty
//!    string, which GitHub passes for an input that was not given, becomes none.
//! 3. The parser of the command line reads the arguments, within this process.
//! 4. An error is reported with the name of the input and the values that the input takes.

use std::collections::BTreeMap;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches};
use secrecy::SecretString;
use serde_json::Value;

use crate::base::env_vars::NIX_CACHE_INPUTS;
use crate::building::words;

/// The inputs that are not passed as arguments, and their synonyms.
pub(super) const TOKEN: [&str; 2] = ["token", "github-token"];
pub(super) const SIGNING_KEY: &str = "signing-key";
/// Inputs for the hook alone, where the action has no argument of the name.
pub(super) const FOR_THE_HOOK: [&str; 2] = ["action", "binary"];

/// The inputs that are not passed as arguments.
#[derive(Clone, Debug, Default)]
pub(crate) struct Secrets {
    /// Token for GitHub's REST interface.
    pub token: Option<SecretString>,
    /// Secret keys that sign what is saved.
    pub signing_key: Option<SecretString>,
}

/// An invalid input. The user has to correct it, so the job fails (exit code 2).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InputError {
    /// The variable does not contain an object of strings.
    #[error(
        "The inputs in {NIX_CACHE_INPUTS} are not a JSON object of strings ({0}). The action's hook sets this variable; set it to {{}} by hand for the defaults."
    )]
    Form(String),
    #[error(
        "There is no input \"{input}\". Check its spelling, or whether the binary given as input \"binary\" is older than the action."
    )]
    Unknown { input: String },
    #[error("The input \"{input}\" is {value:?}, but it takes {takes}. Correct it in the workflow's `with:`.")]
    Value { input: String, value: String, takes: String },
    /// Two names of one input were given with different values. Values are left out, because one may be a token.
    #[error(
        "The inputs \"{first}\" and \"{second}\" are two names for the same thing and were given different values. Keep \"{first}\" in the workflow's `with:` and remove the other."
    )]
    Conflict { first: String, second: String },
}

/// The inputs of one action.
pub(crate) trait ActionInputs: CommandFactory + FromArgMatches {
    /// The parser, as on the command line.
    fn declared() -> Command {
        Self::command()
    }

    /// Adds the inputs that the parser does not see.
    fn with_secrets(self, secrets: Secrets) -> Self;

    /// The inputs in `json`, an object of strings.
    fn from_json(json: &str) -> Result<Self, InputError> {
        let (inputs, secrets) = read::<Self>(Self::declared(), json)?;
        Ok(inputs.with_secrets(secrets))
    }

    /// The inputs in the environment; all defaults if there are none, as on a laptop.
    fn from_environment() -> Result<Self, InputError> {
        Self::from_json(&crate::base::secrets::inputs())
    }
}

/// Reads the inputs in `json` with the parser of `command`.
pub(super) fn read<T: FromArgMatches>(command: Command, json: &str) -> Result<(T, Secrets), InputError> {
    let mut given = parse(json)?;
    let secrets =
        Secrets { token: secret(&mut given, TOKEN)?, signing_key: given.remove(SIGNING_KEY).map(SecretString::from) };
    // An action takes its inputs from the workflow, and not from variables that a step may have set.
    let command = command.no_binary_name(true).disable_help_flag(true).mut_args(|arg| arg.env(Resettable::Reset));
    let mut arguments: BTreeMap<String, Argument> = BTreeMap::new();
    for (input, text) in given {
        let Some((arg, name)) = named(&command, &input) else {
            if FOR_THE_HOOK.contains(&&*input) {
                continue;
            }
            return Err(InputError::Unknown { input });
        };
        let words = words_of(arg, name, &input, &text)?;
        if let Some(other) = arguments.get(name).filter(|other| other.words != words) {
            let (first, second) =
                if input == name { (input, other.input.clone()) } else { (other.input.clone(), input) };
            return Err(InputError::Conflict { first, second });
        }
        arguments.insert(name.to_owned(), Argument { input, words });
    }
    let words = arguments.values().flat_map(|argument| &argument.words);
    let mut matches = command.try_get_matches_from(words).map_err(|error| refused(&error, &arguments))?;
    let read = T::from_arg_matches_mut(&mut matches).map_err(|error| refused(&error, &arguments))?;
    Ok((read, secrets))
}

/// Whether an input is in `json`, and empty.
pub(super) fn is_given_empty(json: &str, input: &str) -> bool {
    let object: Option<Value> = serde_json::from_str(json).ok();
    object.is_some_and(|object| object[input].as_str().is_some_and(|text| text.trim().is_empty()))
}

/// An input as arguments for the parser.
struct Argument {
    input: String,
    words: Vec<String>,
}

/// The inputs that are not empty.
fn parse(json: &str) -> Result<BTreeMap<String, String>, InputError> {
    // The message of the JSON parser contains no value, which could be the token.
    let object: BTreeMap<String, Value> = serde_json::from_str(json)
        .map_err(|error| InputError::Form(format!("line {}, column {}", error.line(), error.column())))?;
    let mut given = BTreeMap::new();
    for (name, value) in object {
        let text = match value {
            Value::String(text) => text.trim().to_owned(),
            Value::Null => String::new(),
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            Value::Array(_) | Value::Object(_) if name == "matrix" => value.to_string(),
            Value::Array(_) | Value::Object(_) => return Err(InputError::Form(format!("\"{name}\" is not a string"))),
        };
        if !text.is_empty() {
            given.insert(name, text);
        }
    }
    Ok(given)
}

fn secret(given: &mut BTreeMap<String, String>, names: [&str; 2]) -> Result<Option<SecretString>, InputError> {
    match names.map(|name| given.remove(name)) {
        [Some(one), Some(other)] if one != other => {
            let [first, second] = names.map(str::to_owned);
            Err(InputError::Conflict { first, second })
        }
        [one, other] => Ok(one.or(other).map(SecretString::from)),
    }
}

/// The argument of an input, and its long name. `keep-going` is the argument `--no-keep-going`, too.
fn named<'a>(command: &'a Command, input: &str) -> Option<(&'a Arg, &'a str)> {
    let by_name = |name: &str| command.get_arguments().find(|arg| names(arg).any(|known| known == name));
    let arg = by_name(input).or_else(|| by_name(&format!("no-{input}")))?;
    Some((arg, arg.get_long()?))
}

/// The long names of an argument.
pub(super) fn names(arg: &Arg) -> impl Iterator<Item = &str> {
    arg.get_long().into_iter().chain(arg.get_all_aliases().into_iter().flatten())
}

/// What the parser is given for the text of an input.
fn words_of(arg: &Arg, name: &str, input: &str, text: &str) -> Result<Vec<String>, InputError> {
    let whole = |value: &str| format!("--{name}={value}");
    match arg.get_action() {
        ArgAction::SetTrue => {
            // Under another name, the argument means the opposite.
            let says = names(arg).any(|known| known == input).to_string();
            match text {
                "true" | "false" if text == says => Ok(vec![format!("--{name}")]),
                "true" | "false" => Ok(Vec::new()),
                _ => Err(wrong(input, text, "one of true, false")),
            }
        }
        ArgAction::Append if input == "nix-args" => {
            let quoted = words(text).ok_or_else(|| wrong(input, text, "words as in a shell, each quote closed"))?;
            Ok(quoted.iter().map(|word| whole(word)).collect())
        }
        ArgAction::Append => {
            let delimiter = arg.get_value_delimiter();
            let parts = text.split(|c: char| match delimiter {
                None => c == '\n',
                Some(delimiter) => c == delimiter || c.is_whitespace(),
            });
            Ok(parts.map(str::trim).filter(|part| !part.is_empty()).map(whole).collect())
        }
        _ => Ok(vec![whole(text)]),
    }
}

/// The parser's complaint as one about an input.
fn refused(error: &clap::Error, arguments: &BTreeMap<String, Argument>) -> InputError {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let argument = context(ContextKind::InvalidArg).trim_start_matches('-');
    let name = argument.split([' ', '=']).next().unwrap_or_default();
    let Some(Argument { input, .. }) = arguments.get(name) else {
        return InputError::Form(error.kind().to_string());
    };
    let why = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let takes = match (error.get(ContextKind::ValidValue), why.strip_prefix("expected ")) {
        (Some(ContextValue::Strings(values)), _) => format!("one of {}", values.join(", ")),
        (_, Some(expected)) => expected.to_owned(),
        (_, None) => format!("another value: {}", why.trim_end_matches('.')),
    };
    wrong(input, context(ContextKind::InvalidValue), &takes)
}

fn wrong(input: &str, value: &str, takes: &str) -> InputError {
    InputError::Value { input: input.to_owned(), value: crate::report::text::cut(value, 100), takes: takes.to_owned() }
}
