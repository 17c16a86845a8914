//! What `scripts/demo.sh` shows: the jobs, the summary of the last one, and where the time went.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::machine::Machine;
use crate::support::nix;
use crate::support::skip;

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name)
}

/// A summary as the terminal shows it, with lines of at most `columns`.
fn shown(markdown: &str, columns: usize) -> String {
    let mut awk = Command::new("awk");
    awk.env("LC_ALL", "C").args(["-v", &format!("columns={columns}"), "-f"]).arg(script("demo-summary.awk"));
    let mut child = awk.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(markdown.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_summary_is_shown_in_a_terminal_without_its_markup() {
    for name in ["exact-hit", "failed-build", "first-save"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/report/testdata/{name}.md"));
        let text = shown(&std::fs::read_to_string(file).unwrap(), 90);
        for markup in ["<", "&#", "| ", "**", "```", "### ", "\u{1b}", "\n\n\n"] {
            assert!(!text.contains(markup), "{name} shows {markup:?}: {text}");
        }
        let longest = text.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(90), "{name}: {longest:?}: {text}");
        for part in ["Hit rate ", "▾ Key and machine", "x86_64-linux, Nix 2.34.8", "Store paths that the job needed\n"]
        {
            assert!(text.contains(part), "{name} lacks {part}: {text}");
        }
    }
}

#[test]
fn tables_fit_and_what_drives_a_terminal_is_not_shown() {
    let table =
        "| Name | Size |\n| --- | ---: |\n| <code>é&#124;b</code> | 5 |\n| long words that do not fit | 12,000 |\n";
    assert_eq!(
        shown(table, 20),
        "Name            Size\n------------  ------\né|b                5\nlong words    12,000\nthat do not\nfit\n"
    );
    assert_eq!(shown("a &#27;[2J&#7; b &amp; &lt;c&gt;\n", 80), "a ?[2J? b & <c>\n");
    assert_eq!(shown(&format!("{}\n", "é".repeat(25)), 10), "éééééééééé\néééééééééé\nééééé\n");
}

#[test]
fn the_demo_shows_three_jobs_a_summary_and_a_picture() {
    if !Path::new("/bin/busybox").exists() {
        return skip("there is no /bin/busybox: scripts/setup.sh busybox-static gets it.");
    }
    let Some(nix) = nix::all().first() else { return };
    let machine = Machine::new(nix);
    let folder = machine.path("demo");
    let mut demo = machine.command(script("demo.sh"));
    demo.arg(&folder).env("NIX_CACHE_BIN", env!("CARGO_BIN_EXE_nix-cache")).stdin(Stdio::null());
    let output = demo.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for part in [
        "restore  Miss: ",
        "build    121 derivations built\n",
        "restore  Exact hit: ",
        "build    0 derivations built\n",
        "restore  Partial hit: ",
        "The job summary of job 3",
        "\nPart of the cache ",
        "\n  From the cache  █",
        "\nJob 3: an input of the flake changed  ",
    ] {
        assert!(said.contains(part), "{part:?} is missing: {said}");
    }
    assert!(!said.contains("<details>"), "{said}");
}
