//! The dashboard: made by the program, and opened in a real browser.
//!
//! `NIX_CACHE_TEST_PICTURES` may name a folder for pictures of the page; `docs/dashboard.png` is its `dashboard.png` in 64 colours. The
//! browser is Debian's `chromium`, driven by `playwright-core` in `tests/node`; `scripts/test.sh` installs both.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::machine::Machine;
use crate::support::nix;
use crate::support::program::Run;

/// Ninety days of an invented repository that adopts the cache after three: two workflows on four lanes, with a slow machine, outages
/// of a binary cache, a change of the lock now and then, and a bad week.
fn sample(end: u64) -> String {
    let mut seed = 20_261_126_u64;
    let mut random = move |most: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % most
    };
    let lanes = [
        ("CI", "CI/build (x86_64-linux)", 4, 780_000),
        ("CI", "CI/build (aarch64-linux)", 2, 1_260_000),
        ("CI", "CI/checks", 4, 330_000),
        ("images", "images/iso", 8, 1_920_000),
    ];
    let packages = [
        "firefox-unwrapped-145.0",
        "nixos-system-desk-26.05",
        "linux-6.18.3",
        "ghc-9.12.2",
        "home-manager-generation",
        "unit-tests",
        "vm-test-run-login",
        "docs",
        "rustc-1.95.0",
        "initrd-linux-6.18.3",
    ];
    let mut out = String::new();
    for number in 0..1_000_u64 {
        let day = number * 90 / 1_000;
        let time = end - 90 * 86_400 + number * 7_776 + random(5_000);
        let (workflow, lane, cpus, cold_ms) = lanes[(random(10) as usize).min(3 + random(2) as usize) % 4];
        let (is_cold, is_bump, is_bad) = (day < 3 || random(90) == 0, random(14) == 0, (60..67).contains(&day));
        let needed = 1_300 + random(200);
        let share = match (is_cold, is_bump, is_bad) {
            (true, ..) => 0,
            (_, true, _) => 40 + random(20),
            (_, _, true) => 70 + random(12),
            _ => 93 + random(7),
        };
        let cached = needed * share / 100;
        let outage = (71..74).contains(&day) && random(3) == 0;
        let broken = !outage && random(24) == 0;
        let status = if outage || broken {
            "failure"
        } else if random(60) == 0 {
            "cancelled"
        } else {
            "success"
        };
        let build = cold_ms * (100 - share) / 100 + 15_000 + random(20_000);
        let (evaluation, restore, save) =
            (14_000 + random(9_000), if is_cold { 800 } else { 9_000 + random(6_000) }, 2_000 + random(9_000));
        let job = build + evaluation + restore + save + 20_000 + random(15_000);
        let package = |n: u64| packages[(n % packages.len() as u64) as usize];
        let slowest: Vec<Value> =
            (0..5_u64).map(|n| json!({"name": package(random(10)), "ms": (build / (n + 2)) / 1_000 * 1_000})).collect();
        let failed = match (outage, broken) {
            (true, _) => json!([{"name": "https://cache.example.org", "category": "substituter", "transient": true}]),
            (_, true) => {
                json!([{"name": package(5 + random(3)), "category": if random(2) == 0 { "test" } else { "build" }, "transient": false}])
            }
            _ => json!([]),
        };
        let category = failed[0]["category"].as_str().unwrap_or_default();
        // Audits of the default branch, each with less to mend.
        let audit = (lane == "CI/checks" && number % 20 == 3).then(|| {
            let (errors, warnings) = (4_u64.saturating_sub(day / 20), 31_u64.saturating_sub(day / 4));
            json!({"errors": errors, "warnings": warnings, "notices": 12, "new": 0, "paths": 412, "bytes": 3_900_000_000_u64,
                "evaluated-paths": 250 + day, "evaluated-bytes": 2_900_000_000_u64, "derivation-paths": 60})
        });
        let mut run = json!({
            "time": time, "run": 19_000_000_000_u64 + number * 37, "attempt": 1, "lane": lane, "workflow": workflow,
            "ref": if random(3) == 0 { format!("refs/pull/{}/merge", 100 + day / 6) } else { "refs/heads/main".to_owned() },
            "event": "push", "sha": format!("{:040x}", u128::from(number) * 0x9e37_79b9_7f4a_7c15), "system": "x86_64-linux",
            "status": status, "hit": if is_cold { "miss" } else if is_bump { "partial" } else { "exact" },
            "cached": cached, "built": (needed - cached) / 4, "fetched": needed - cached - (needed - cached) / 4,
            "restore-ms": restore, "save-ms": save, "evaluation-ms": evaluation, "build-ms": build, "job-ms": job,
            "downloaded": (cached + 1) * 690_000, "uploaded": (needed - cached) * 640_000,
            "held": (2_400_000_000 + day * 88_000_000).min(9_200_000_000 + random(900_000_000)),
            "category": category, "retries": random(30) / 28, "slowest": slowest, "failed": failed,
            "cpus": cpus, "memory": (cpus * 4) << 30, "cpu-percent": 45 + random(45), "memory-peak": (cpus << 30) + random(cpus << 31),
            "version": "0.1.0", "nix": "2.34.8"
        });
        if let Some(audit) = audit {
            (run["audit"], run["ref"]) = (audit, "refs/heads/main".into());
        }
        let _ = writeln!(out, "{run}");
    }
    out
}

/// The browser and its driver; None, with a reason, where they are missing and not required.
pub(crate) fn browser() -> Option<PathBuf> {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node");
    let chromium = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"]
        .iter()
        .find(|program| Path::new(program).exists());
    let missing = match chromium {
        None => "there is no chromium",
        Some(_) if !scripts.join("node_modules/playwright-core").is_dir() => "run `npm ci` in tests/node",
        Some(program) => return Some(PathBuf::from(program)),
    };
    let required = std::env::var("NIX_CACHE_TEST_REQUIRE_ALL").is_ok_and(|value| value == "1");
    assert!(!required, "No browser can be driven: {missing}.");
    eprintln!("Skipped, because no browser can be driven: {missing}.");
    None
}

#[test]
fn a_browser_shows_it_loads_nothing_and_reaches_everything_by_keyboard() {
    let Some(chromium) = browser() else { return };
    let Some(nix) = nix::all().first() else { return };
    let machine = Machine::new(nix);
    let (file, rules, folder) = (machine.path("runs.jsonl"), machine.path("goals.toml"), machine.path("page"));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    fs::write(&file, sample(now - 3_600)).unwrap();
    fs::write(&rules, "[goals]\nhit-rate = 0.9\njob-time-reduction = 0.4\nsuccess-rate = 0.95\n").unwrap();
    let made = Run::of(machine.nix_cache(&[
        "dashboard",
        "--runs",
        file.to_str().unwrap(),
        "--rules",
        rules.to_str().unwrap(),
        "--out",
        folder.to_str().unwrap(),
        "--title",
        "Sample data: example/flake",
    ]));
    assert_eq!(made.code, Some(0), "{made:?}");
    assert!(made.log.contains("The dashboard of 1,000 runs is "), "{made:?}");
    assert!(fs::metadata(folder.join("index.html")).unwrap().len() < 200_000);

    let pictures = std::env::var_os("NIX_CACHE_TEST_PICTURES").map(PathBuf::from);
    let mut command = Command::new("node");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node/dashboard.mjs")).arg(&folder).args(&pictures);
    let seen = command.env("CHROMIUM", chromium).env("HOME", machine.path("home")).output().unwrap();
    assert!(seen.status.success(), "{}", String::from_utf8_lossy(&seen.stderr));
    let seen: Value = serde_json::from_slice(&seen.stdout).unwrap();
    assert_eq!(seen["errors"], json!([]));
    // The page alone, once for each view and once for the policy, and the image that the policy forbids is not asked for.
    assert_eq!(seen["requests"], json!(["/", "/", "/", "/", "/"]));
    assert_eq!((&seen["policy"]["ran"], &seen["policy"]["loaded"]), (&json!(false), &json!(false)));
    let view = |name: &str| &seen["views"][name];
    assert_ne!(view("light-1280")["back"], view("dark-1280")["back"]);
    for (name, width) in [("light-1280", 1_280), ("dark-1280", 1_280), ("light-400", 400), ("dark-400", 400)] {
        let view = view(name);
        assert!(view["width"].as_u64().unwrap() <= width, "{name} scrolls sideways: {}", view["width"]);
        let text = view["text"].as_str().unwrap();
        for part in [
            "Sample data: example/flake",
            "Hit rate",
            "goal of 90.0 %",
            "Slowest derivations",
            "firefox-unwrapped-145.0",
            "By lane",
        ] {
            assert!(text.contains(part), "{name} lacks {part}");
        }
        let all = |key: &str| view[key].as_array().unwrap().clone();
        assert_eq!(
            all("charts"),
            [
                "Hit rate",
                "Job time and its parts",
                "Time saved",
                "Bytes moved",
                "Jobs that succeeded",
                "Cache in use",
                "Open findings",
                "Coverage of audits"
            ]
        );
        assert!(all("plots").iter().all(|plot| plot.as_f64() > Some(200.0)), "{name}: {:?}", view["plots"]);
        assert!(all("bars").iter().all(|fill| fill != "rgb(0, 0, 0)"), "the style sheet is not in force");
        assert!(view["opened"].as_str().unwrap().contains("Time (UTC)"), "{name}");
        let reached = all("reached");
        assert_eq!(reached[0], "A.skip");
        let count = |what: &str| reached.iter().filter(|at| at.as_str().unwrap().starts_with(what)).count();
        assert!(count("SUMMARY") >= 6 && count("DIV.scroll") >= 7 && count("A.") >= 4, "{name}: {reached:?}");
        let ids = all("ids");
        let distinct: std::collections::BTreeSet<_> = ids.iter().map(Value::to_string).collect();
        assert_eq!(ids.len(), distinct.len(), "an id is there twice");
    }
}

#[test]
fn without_runs_or_with_a_wrong_goal_it_says_what_to_do() {
    let Some(nix) = nix::all().first() else { return };
    let machine = Machine::new(nix);
    let run = |arguments: &[&str]| Run::of(machine.nix_cache(&[&["dashboard"], arguments].concat()));
    let nothing = run(&[]);
    assert!(nothing.code == Some(2) && nothing.log.contains("--remote dir:PATH"), "{nothing:?}");
    let (remote, folder) = (format!("dir:{}", machine.path("cache").display()), machine.path("page"));
    let out = ["--remote", &remote, "--out", folder.to_str().unwrap()];
    let empty = run(&out);
    assert!(empty.code == Some(0) && empty.log.contains("0 runs"), "{empty:?}");
    assert!(fs::read_to_string(folder.join("index.html")).unwrap().contains("There is no run in the history yet"));
    let rules = machine.path("nix-cache.toml");
    fs::write(&rules, "[goals]\nhit-rate = 90\n").unwrap();
    let wrong = run(&[&out[..], &["--rules", rules.to_str().unwrap()]].concat());
    assert!(
        wrong.code == Some(2) && wrong.log.contains("line 2") && wrong.log.contains("share from 0 to 1"),
        "{wrong:?}"
    );
    let absent = run(&[&out[..], &["--rules", "/no/such.toml"]].concat());
    assert!(absent.code == Some(2) && absent.log.contains("/no/such.toml"), "{absent:?}");
}
