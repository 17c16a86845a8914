//! No text from outside controls a runner: commands are put into each source of text, and all output is parsed as a runner parses
//! it.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use base64::Engine;
use serde_json::{Value, json};

use crate::support::cache::entries;
use crate::support::envelope;
use crate::support::machine::{Machine, system};
use crate::support::nix;
use crate::support::program::{KEY, Run};

/// What a hostile text holds.
const COMMANDS: &str = "x ##[add-mask]a\n::error::b\r ::stop-commands::c\u{2028}::d #\u{AD}#[group]e \u{1b}[2J\u{202E}";
/// The same on one line.
const INLINE: &str = "::x ##[add-mask]a\r::error::b";
/// Commands that this program means to send.
const OURS: [&str; 6] = ["add-mask", "group", "endgroup", "notice", "warning", "error"];

/// Panics where a runner would carry out a command that is not ours, or a terminal would be steered. `ActionCommand.cs` of
/// actions/runner passes over characters without weight, so only the ASCII of a line is looked at.
fn assert_harmless(run: &Run) {
    for line in [&run.out, &run.log].into_iter().flat_map(|text| text.split(['\n', '\r'])) {
        let ascii: String = line.chars().filter(|c| c.is_ascii() && !c.is_ascii_control()).collect();
        let ours = OURS.iter().any(|name| line.strip_prefix("::").is_some_and(|rest| rest.starts_with(name)));
        // A command of ours has a title of ours, or is one of those without any.
        let title = [
            "title=nix-cache",
            "title=Check failed",
            "title=Evaluation error",
            "::group::",
            "::endgroup::",
            "::add-mask::",
        ];
        assert!(
            !ascii.trim_start().starts_with("::") || ours && title.iter().any(|known| line.contains(known)),
            "{line:?}"
        );
        assert!(!ascii.contains("##["), "{line:?}");
        assert!(
            !line.contains(|c: char| c != '\t' && c.is_control() || c == '\u{202E}' || c == '\u{2028}'),
            "{line:?}"
        );
    }
}

fn shown(run: &Run, what: &str) {
    assert!(format!("{}{}", run.out, run.log).contains(what), "{what:?} is not shown at all: {run:?}");
    assert_harmless(run);
}

fn on_runner(mut command: Command) -> Run {
    command.env("GITHUB_ACTIONS", "true");
    Run::of(command)
}

#[test]
fn arguments_that_are_refused_are_harmless() {
    let Some(nix) = nix::all().first() else { return };
    let machine = Machine::new(nix);
    shown(&on_runner(machine.nix_cache(&[COMMANDS])), "add-mask");
    shown(&on_runner(machine.nix_cache(&["restore", "--lane", INLINE, "--remote", "dir:x"])), "a name consists of");
    shown(&on_runner(machine.nix_cache(&["restore", "--remote", COMMANDS])), "add-mask");
    let mut command = machine.nix_cache(&["key", "--prefix-key", "y"]);
    command.env("NIX_CACHE_LOG", format!("a={INLINE}"));
    shown(&on_runner(command), "NIX_CACHE_LOG");
}

#[test]
fn a_lock_file_drives_no_runner() {
    let Some(nix) = nix::all().first() else { return };
    let machine = Machine::new(nix);
    let lock = json!({
        "nodes": {
            "nixpkgs": {
                "locked": { "narHash": "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "owner": COMMANDS, "repo": INLINE,
                    "rev": "0123456789012345678901234567890123456789", "type": "github", "lastModified": 1 },
                "original": { "owner": COMMANDS, "repo": INLINE, "type": "github" }
            },
            "root": { "inputs": { "nixpkgs": "nixpkgs" } }
        },
        "root": "root", "version": 7
    });
    fs::write(machine.path("project/flake.lock"), lock.to_string()).unwrap();
    for format in ["text", "json"] {
        let run = on_runner(machine.nix_cache(&["key", "--project", "project", "--format", format]));
        assert_harmless(&run);
        if format == "json" {
            let key = run.json();
            assert!(key["parts"].to_string().contains("##[add-mask]a"), "JSON means the same: {key}");
        }
    }
    fs::write(machine.path("project/flake.lock"), format!("{{ \"{}\": ", INLINE.replace('\r', " "))).unwrap();
    assert_harmless(&on_runner(machine.nix_cache(&["key", "--project", "project"])));
}

#[test]
fn names_from_a_cache_are_refused_and_shown_harmlessly() {
    let Some(nix) = nix::all().first() else { return };
    let machine = Machine::new(nix);
    let (cache, first) = (machine.path("cache"), machine.store("first"));
    first.build(&["one"]);
    first.save(&cache, KEY, &[]);
    let snapshot = entries(&cache, "snapshot").remove(0);
    let bytes = fs::read(&snapshot).unwrap();
    let body = &bytes[envelope::HEAD..];
    let wire: Value = serde_json::from_slice(&zstd::decode_all(body).unwrap()).unwrap();
    let trusted = ["--trusted-public-keys", "k-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="];
    let tried = |more: &[&str]| {
        let run = on_runner(machine.store("other").verb("restore", &cache, KEY, more));
        assert_harmless(&run);
        run.json()
    };
    // The name of the key of a signature.
    for name in ["##[add-mask]k", "::error"] {
        let signature = format!("{name}:{}", base64::engine::general_purpose::STANDARD.encode([7; 64]));
        let head = json!({ "format": 3, "facts": null, "signatures": [signature] });
        fs::write(&snapshot, envelope::sealed("snapshot", head, body)).unwrap();
        assert_eq!(tried(&trusted)["hit"], "miss", "{name}");
    }
    // An entry, a lane, the key, the system, a path, a layer's digest.
    let lane = wire["lanes"].as_object().unwrap().keys().next().unwrap().clone();
    for change in
        ["/stored/0/entry", "/facts/lane", "/facts/key", "/facts/system", "/names/0", "/stored/0/chunks/0", "lane"]
    {
        let mut wire = wire.clone();
        if let Some(value) = wire.pointer_mut(change) {
            *value = INLINE.into();
        } else {
            let lanes = wire["lanes"].as_object_mut().unwrap();
            let used = lanes.remove(&lane).unwrap();
            lanes.insert(INLINE.into(), used);
        }
        let body = zstd::encode_all(wire.to_string().as_bytes(), 1).unwrap();
        fs::write(&snapshot, envelope::snapshot(&body)).unwrap();
        let outcome = tried(&[]);
        // A path that has no name leaves out what refers to it; anything else makes the snapshot one that nobody wrote.
        let hit = if change == "/names/0" { "exact" } else { "miss" };
        assert_eq!(outcome["hit"], hit, "{change}: {outcome}");
        let inspected =
            machine.nix_cache(&["inspect", "--primary-key", KEY, "--remote", &format!("dir:{}", cache.display())]);
        assert_harmless(&on_runner(inspected));
    }
    // The name of a generation.
    fs::write(&snapshot, envelope::snapshot(body)).unwrap();
    let hostile = snapshot.with_file_name("tests-##[add-mask]k\r::error::x#g1");
    fs::rename(&snapshot, &hostile).unwrap();
    let run = on_runner(machine.store("third").verb(
        "restore",
        &cache,
        "tests",
        &["--restore-prefixes-first-match", "tests-"],
    ));
    assert_harmless(&run);
    assert_eq!(run.json()["hit"], "miss");
}

/// Refuses whatever is asked, with a text that would be commands.
fn answer_with_commands(mut connection: TcpStream) {
    let mut bytes = [0; 4096];
    // The whole question: with a part of it unread the connection is reset, and the answer lost.
    let mut question = Vec::new();
    let length = |question: &[u8]| {
        let text = String::from_utf8_lossy(question).to_ascii_lowercase();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).map_or("0", str::trim);
        Some(length.parse::<usize>().ok()? <= body.len())
    };
    while length(&question) != Some(true) {
        match connection.read(&mut bytes) {
            Ok(count) if count > 0 => question.extend_from_slice(&bytes[..count]),
            _ => return,
        }
    }
    let body = json!({ "code": "permission_denied", "msg": COMMANDS, "message": COMMANDS }).to_string();
    let head = format!(
        "HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}",
        body.len()
    );
    let _ = write!(connection, "{head}\r\n\r\n{body}");
}

#[test]
fn what_a_service_answers_drives_no_runner() {
    let Some(nix) = nix::all().first() else { return };
    let machine = Machine::new(nix);
    let service = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = service.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in service.incoming() {
            let Ok(connection) = connection else { return };
            std::thread::spawn(move || answer_with_commands(connection));
        }
    });
    let store = machine.store("store");
    let mut command = machine.nix_cache(&["restore", "--primary-key", KEY, "--remote", "github", "--store-root"]);
    command
        .arg(&store.root)
        .env("ACTIONS_RESULTS_URL", format!("http://{address}/"))
        .env("ACTIONS_RUNTIME_TOKEN", "x.y.z");
    command.env("ACTIONS_CACHE_SERVICE_V2", "True").env("NIX_CACHE_TUNING", "rpc_delay=5");
    shown(&on_runner(command), "add-mask");
}

#[test]
fn targets_and_checks_drive_no_runner() {
    let Some(nix) = nix::all().last() else { return };
    let machine = Machine::new(nix);
    let project = machine.path("hostile");
    fs::create_dir_all(&project).unwrap();
    let flake = format!(
        "{{ outputs = _: {{ packages.\"{0}\" = let drv = derivation {{ name = \"x\"; system = \"{0}\"; builder = \"/bin/sh\"; }};
        in {{ \"##[add-mask]t\" = drv; \"::error::t\" = drv; broken = throw \"##[group]g\\n::error::h\"; }}; }}; }}",
        system()
    );
    fs::write(project.join("flake.nix"), flake).unwrap();
    for arguments in [&["init", "--quiet"][..], &["add", "flake.nix"]] {
        assert!(machine.command("git").args(arguments).current_dir(&project).status().unwrap().success());
    }
    let store = machine.store("store");
    for format in ["text", "json", "matrix"] {
        let mut command = machine.nix_cache(&["plan", "--format", format, "--no-substituters", "--project"]);
        command.arg(&project).arg("--store-root").arg(&store.root);
        let run = on_runner(command);
        shown(&run, if format == "text" { "## [add-mask]t" } else { "##\\u005badd-mask]t" });
    }
    // What a check prints, and what Nix says.
    let mut command = machine.nix_cache(&["action", "build"]);
    let check = r"own: printf 'a\r::error::b\n##[group]c\n::debug::d\n\342\200\250::e #\302\255#[f]'; exit 1";
    let inputs = json!({ "targets": ".#broken", "check-commands": check, "retries": "0" });
    command.env("NIX_CACHE_INPUTS", inputs.to_string()).env("GITHUB_WORKSPACE", &project);
    command.env("NIX_CACHE_STORE_ROOT", &store.root).env("RUNNER_TEMP", machine.path("")).current_dir(&project);
    let run = on_runner(command);
    assert_eq!(run.code, Some(1), "{run:?}");
    shown(&run, "## [group]");
}
