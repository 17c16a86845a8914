//! Pushes while the job runs (`push-to` with `progressive`): what was built is in each sink before the post step, which pushes only the rest and
//! alone warns.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use super::job::Job;
use super::place::Place;
use super::progressive::{TUNING, endless, has_saved, is_saving, job, kill_all, name, saved, wait, worker};
use crate::push::servers::{Answer, server};
use crate::push::tools::program;
use crate::push::{fetch, file, files};
use crate::signed::key;
use crate::support::fake::{Fake, FakeConfig};
use crate::support::{moto, nix};

/// Tuning with ten seconds between two saves, which is how long a push may take. These processes give way to all others, of which
/// there may be many.
fn patient() -> String {
    format!("{TUNING},checkpoint_interval=10000")
}

/// The name of the narinfo of a path.
fn narinfo(path: &str) -> String {
    format!("{}.narinfo", &path.trim().rsplit('/').next().unwrap()[..32])
}

/// What `/proc` shows of the process that saves while this job runs: its arguments and its environment.
fn shown(job: &Job) -> (String, String) {
    let root = format!("NIX_CACHE_STORE_ROOT={}", job.store.root.display());
    let read = |number: &str, what: &str| {
        let bytes = fs::read(format!("/proc/{number}/{what}")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', "\n")
    };
    let numbers = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut both = numbers.map(|number| (read(&number, "cmdline"), read(&number, "environ")));
    let is_it = |(line, variables): &(String, String)| {
        line.contains("\ncheckpoints") && variables.lines().any(|line| line == root)
    };
    both.find(is_it).expect("the process can be seen")
}

/// Puts the programs of a folder on the PATH of a job.
fn with_tools(job: &mut Job, tools: &Path) {
    let command: Command = job.command("restore");
    let path = command.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, value)| value).unwrap().to_owned();
    let folders = [tools.to_owned()].into_iter().chain(std::env::split_paths(&path));
    job.set("PATH", std::env::join_paths(folders).unwrap().to_str().unwrap());
}

/// How often each file was written, and the number of other requests.
#[derive(Default)]
struct Count {
    puts: BTreeMap<String, usize>,
    others: usize,
}

#[test]
fn what_is_built_is_in_each_sink_while_the_job_runs_and_is_not_sent_again() {
    let Some(nix) = nix::all().last() else { return };
    let (place, fake) = (Place::new(nix), Fake::start(FakeConfig::default()));
    let (machine, ours) = (&place.machine, key(&place.machine, "ours-1"));
    let secret = fs::read_to_string(&ours.secret).unwrap();
    let (folder, tools, given) = (machine.path("sink"), machine.path("tools"), machine.path("given"));
    let count = Arc::new(Mutex::new(Count::default()));
    let counted = Arc::clone(&count);
    let (address, _) = server(move |request| {
        let mut count = counted.lock().unwrap();
        if request.method == "PUT" {
            *count.puts.entry(request.path.clone()).or_default() += 1;
        } else {
            count.others += 1;
        }
        Answer::Serve
    });
    program(
        &tools,
        "cachix",
        &format!("[ \"$CACHIX_AUTH_TOKEN\" = hunter2-cachix ] || exit 67\ncat >> {}", given.display()),
    );
    let sinks = format!("{}\nhttp://{address}\ncachix:my-cache", file(&folder));
    let mut first = job(&place, &fake, "first", &[("push-to", &sinks), ("signing-key", secret.trim())]);
    let secrets = [
        ("AWS_SECRET_ACCESS_KEY", "hunter2-aws"),
        ("CACHIX_AUTH_TOKEN", "hunter2-cachix"),
        ("NIX_CACHE_PUSH_TOKEN", "hunter2-push"),
    ];
    for (name, value) in secrets {
        first.set(name, value);
        first.keep_secret(value);
    }
    first.keep_secret(secret.trim());
    first.set("NIX_CACHE_TUNING", &patient());
    with_tools(&mut first, &tools);
    assert_eq!(first.restore().code, Some(0));
    wait("the main step starts a process", || is_saving(&first));
    let (line, variables) = shown(&first);
    for text in [&line, &variables] {
        assert!(!text.contains("hunter2") && !text.contains(secret.trim()), "{text}");
    }

    let built = first.store.build(&["onTop"]);
    let has = || fs::read_to_string(&given).is_ok_and(|text| text.contains(&built[0]));
    wait("what is built is pushed while the job runs", has);
    for (number, from) in [file(&folder), format!("http://{address}")].into_iter().enumerate() {
        fetch(&machine.store(&format!("reader-{number}")), &from, &ours.public, &built[0]).unwrap();
    }
    assert!(is_saving(&first), "the job goes on");
    // The record of the push is written a moment later.
    let record = first.store.dirs().own_dir().join("pushed.json");
    wait("it is recorded", || fs::read_to_string(&record).is_ok_and(|text| text.contains("cachix:my-cache")));
    assert!(!fs::read_to_string(&record).unwrap().contains("hunter2"));
    let (before, lines) = (count.lock().unwrap().others, fs::read_to_string(&given).unwrap());
    let step = first.post();
    assert_eq!((step.code, step.notes()), (Some(0), Vec::new()), "{}", step.log);
    let after = count.lock().unwrap();
    assert!(after.puts.len() > 4 && after.puts.values().all(|times| *times == 1), "{:?}", after.puts);
    assert_eq!((after.others, fs::read_to_string(&given).unwrap()), (before, lines), "nothing is asked or given again");
    let summary = first.summary();
    assert!(step.log.contains("While the job ran: ") && summary.contains("Pushed while the job ran"), "{summary}");

    // The post step pushes what no checkpoint got to.
    let mut second = job(&place, &fake, "second", &[("push-to", &file(&folder)), ("signing-key", secret.trim())]);
    second.set("NIX_CACHE_TUNING", "checkpoint_interval=600000,checkpoint_look=100,rpc_delay=100");
    assert_eq!(second.restore().code, Some(0));
    let one = second.store.build(&["one"]);
    let step = second.post();
    assert_eq!((step.code, step.notes()), (Some(0), Vec::new()), "{}", step.log);
    assert!(files(&folder).contains(&narinfo(&one[0])) && !second.summary().contains("while the job ran"));
}

#[test]
fn what_a_killed_job_had_finished_is_in_an_object_store() {
    let Some(nix) = nix::all().last() else { return };
    let Some(server) = moto::server() else { return };
    let (place, fake, bucket) = (Place::new(nix), Fake::start(FakeConfig::default()), moto::bucket(server));
    let ours = key(&place.machine, "ours-1");
    let secret = fs::read_to_string(&ours.secret).unwrap();
    // Two caches in one bucket.
    let [to, other] = ["nix", "other"].map(|prefix| format!("s3://{bucket}/{prefix}?endpoint=http://{server}"));
    let to = format!("{to}\n{other}");
    let mut first = job(&place, &fake, "killed", &[("push-to", &to), ("signing-key", secret.trim())]);
    for (name, value) in moto::KEYS {
        first.set(name, value);
    }
    first.set("NIX_CACHE_TUNING", &patient());
    let tracking = format!("github_{}", first.workspace().display());
    let mut worker = worker(&first, &tracking);
    wait("the main step starts a process, and ends", || is_saving(&first) && name(&worker).trim() == "sleep");
    assert!(!shown(&first).1.contains("AWS_"));
    let mut build = endless(&first).env("RUNNER_TRACKING_ID", &tracking).spawn().unwrap();
    // What is pushed and what is saved are looked up at different times: on a slow machine one can be ahead of the other.
    wait("what is finished is saved while the build runs", || saved(&first, "another").is_some());
    let finished = narinfo(&saved(&first, "another").unwrap());
    let listed = || moto::plain(server, "GET", &format!("/{bucket}?list-type=2"));
    let has = |prefix: &str| listed().contains(&format!("<Key>{prefix}/{finished}</Key>"));
    wait("what is finished is pushed while the build runs", || has("nix") && has("other"));
    let number = || {
        ["nix/", "other/"].map(|prefix| {
            listed().split("<Key>").filter(|key| key.starts_with(prefix) && key.contains(".narinfo")).count()
        })
    };
    assert!(build.try_wait().unwrap().is_none(), "the build goes on");
    assert!(kill_all(&tracking) >= 3);
    let _ = (worker.wait(), build.wait());
    wait("nothing is left of the job", || !is_saving(&first));
    // The next job reads it from there.
    let mut next =
        job(&place, &fake, "next", &[("push-to", &to), ("signing-key", secret.trim()), ("progressive", "off")]);
    for (name, value) in moto::KEYS {
        next.set(name, value);
    }
    let before = number();
    next.restore();
    assert_eq!(next.store.builds(&["another"]), 0, "it was saved as well");
    next.store.build(&["another"]);
    let step = next.post();
    assert_eq!((step.code, step.notes(), number()), (Some(0), Vec::new(), before), "{}", step.log);
}

#[test]
fn a_sink_that_refuses_is_one_warning_and_one_that_hangs_keeps_nothing_from_being_saved() {
    let Some(nix) = nix::all().last() else { return };
    let (place, fake) = (Place::new(nix), Fake::start(FakeConfig::default()));
    let refused = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&refused);
    let (address, _) = server(move |request| {
        *counted.lock().unwrap() += usize::from(request.method == "PUT");
        if request.method == "PUT" { Answer::Status(403) } else { Answer::Serve }
    });
    let first = job(&place, &fake, "refused", &[("push-to", &format!("http://{address}"))]);
    assert_eq!(first.restore().code, Some(0));
    wait("the main step starts a process", || is_saving(&first));
    first.store.build(&["one"]);
    wait("a push is tried while the job runs", || *refused.lock().unwrap() > 0);
    wait("it is saved all the same", || has_saved(&first, &first.store.outputs()));
    let step = first.post();
    assert_eq!((step.code, step.report["save"]["outcome"].as_str()), (Some(0), Some("saved")), "{}", step.log);
    let warnings = step.notes().into_iter().filter(|code| *code == "push-refused").count();
    assert_eq!((warnings, step.log.matches("::warning").count()), (1, 1), "{}", step.log);

    let asked = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&asked);
    let (address, _) = server(move |_| {
        *counted.lock().unwrap() += 1;
        std::thread::sleep(std::time::Duration::from_mins(10));
        Answer::Reset
    });
    let inputs = [("push-to", &*format!("http://{address}")), ("save-timeout", "15s")];
    let second = job(&place, &fake, "hangs", &inputs);
    assert_eq!(second.restore().code, Some(0));
    wait("the main step starts a process", || is_saving(&second));
    let had = second.store.valid();
    second.store.build(&["another"]);
    wait("a push is tried while the job runs", || *asked.lock().unwrap() > 0);
    second.store.build(&["onTop"]);
    wait("what is built later is saved", || has_saved(&second, &(&second.store.outputs() - &had)));
    let step = second.post();
    assert_eq!((step.code, step.report["save"]["outcome"].as_str()), (Some(0), Some("saved")), "{}", step.log);
    let about_sinks = step.notes().into_iter().filter(|code| code.starts_with("push-incomplete")).count();
    assert_eq!(about_sinks, 1, "{:?} {}", step.notes(), step.log);
}
