//! The records of forks' jobs, which are artifacts of their runs, read from GitHub: by us, and held against GitHub's own client.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::history::{job, of_a_fork, run};
use super::place::Place;
use crate::real_client::has_artifact_client;
use crate::support::fake::{Fake, FakeRun, Operation, RestPermission};
use crate::support::nix;
use crate::support::program::Run;

/// The commit of the fork's branch, which is called `main` as ours is.
const HEAD: &str = "5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed";

/// Runs a job of pull request 7 from a fork, and returns the number of its run.
fn fork(place: &Place, fake: &Fake, name: &str) -> u64 {
    let mut job = job(place, fake, name);
    job.set("GITHUB_EVENT_NAME", "pull_request");
    job.set("GITHUB_REF", "refs/pull/7/merge");
    job.set("GITHUB_SHA", &"a".repeat(40));
    let id = job.run_id();
    fake.begin(FakeRun { id, event: "pull_request", head: (66, "eve/nix", "main"), sha: HEAD, pulls: vec![7] });
    run(place, &job);
    id
}

fn nix_cache(place: &Place, fake: &Fake, permission: RestPermission, arguments: &[&str]) -> Run {
    let mut command = place.machine.nix_cache(arguments);
    command.envs(fake.rest_env(permission));
    Run::of(command)
}

/// The runs in a cache.
fn exported(place: &Place, remote: &str) -> Vec<Value> {
    let out = Run::of(place.machine.nix_cache(&["history", "export", "--remote", remote])).out;
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// An archive of one deflated file.
pub(crate) fn zip(name: &str, content: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(content).unwrap();
    let packed = packed.finish().unwrap();
    let mut crc = flate2::Crc::new();
    crc.update(content);
    let sizes = [crc.sum(), packed.len() as u32, content.len() as u32].map(u32::to_le_bytes).concat();
    let common = [&[20, 0, 0, 0, 8, 0, 0, 0, 0, 0][..], &sizes, &(name.len() as u16).to_le_bytes(), &[0, 0]].concat();
    let local = [b"PK\x03\x04", &common[..], name.as_bytes(), &packed].concat();
    let central = [b"PK\x01\x02\x14\x00", &common[..], &[0; 14], name.as_bytes()].concat();
    let place = [central.len() as u32, local.len() as u32].map(u32::to_le_bytes).concat();
    [&local[..], &central, b"PK\x05\x06\0\0\0\0\x01\0\x01\0", &place, &[0, 0]].concat()
}

#[test]
fn records_of_forks_are_imported_as_far_as_github_confirms_them() {
    let Some(nix) = nix::all().first() else { return };
    let place = Place::new(nix);
    let fake = of_a_fork();
    let id = fork(&place, &fake, "fork");
    let [(name, zipped, _)] = fake.artifacts().try_into().unwrap();
    let remote = format!("dir:{}", place.machine.path("elsewhere").display());
    let import = ["history", "import", "--github", "--remote", &remote];

    // What else a fork may leave, each with a record that would be read from a file.
    let folder = place.machine.path("copy");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("record.zip"), &zipped).unwrap();
    let copy = format!("dir:{}", place.machine.path("copied").display());
    let copied = ["history", "import", folder.to_str().unwrap(), "--remote", &copy];
    assert_eq!(Run::of(place.machine.nix_cache(&copied)).code, Some(0));
    let record = exported(&place, &copy).remove(0);
    let lane = |digest: u64| format!("nix-cache-history-{id}-1-{digest:012x}");
    let with = |field: &str, value: Value| {
        let mut changed = record.clone();
        changed[field] = value;
        zip("run.jsonl", format!("{changed}\n").as_bytes())
    };
    let other_run = name.replace(&id.to_string(), "4711");
    let hostile = [
        (other_run.clone(), zipped.clone(), "it has the name of another run"),
        (lane(1), zipped.clone(), "its attempt or lane is not that of its name"),
        (lane(2), zip("run.jsonl", &vec![b' '; 8 << 20]), "its files are larger than 65536 bytes"),
        (lane(3), vec![0; 80 << 10], "it is larger than 64 KiB"),
        (lane(4), b"text".to_vec(), "it is not a zip archive"),
        (lane(5), zip("run.jsonl", b""), "it does not have just one record"),
        (name.clone(), with("event", json!("push")), "another event started the run"),
        (name.clone(), with("ref", json!("refs/heads/main")), "its ref is not that of a pull request"),
        (name.clone(), with("ref", json!("refs/pull/8/merge")), "it claims to be of another pull request"),
        (name.clone(), with("run", json!(4711)), "it claims to be of another run"),
        (name.clone(), with("downloaded", json!(u64::MAX)), "a number is impossible"),
    ];
    let count = hostile.len();
    for (name, zip, _) in &hostile[..6] {
        fake.put_artifact(name, zip);
    }
    fake.put_artifact("nix-cache-report-build", b"not a record");

    let refused = nix_cache(&place, &fake, RestPermission::None, &import);
    assert!(refused.code == Some(1) && refused.log.contains("needs the permission `actions: read`"), "{refused:?}");
    let imported = nix_cache(&place, &fake, RestPermission::Read, &import);
    assert!(imported.code == Some(0) && imported.log.contains("1 run read: 1 imported."), "{imported:?}");
    assert!(imported.log.contains("7 records of jobs in artifacts: 1 read, 6 left out."), "{imported:?}");
    for (name, _, why) in &hostile[..6] {
        assert!(imported.log.contains(&format!("{name} is left out: {why}")), "{why}: {imported:?}");
    }
    let runs = exported(&place, &remote);
    let facts = |field: &str| runs[0][field].clone();
    assert_eq!((runs.len(), facts("run"), facts("event")), (1, json!(id), json!("pull_request")));
    // The commit and the time are those that GitHub knows.
    assert_eq!((facts("ref"), facts("sha"), facts("foreign")), (json!("refs/pull/7/merge"), json!(HEAD), json!(true)));
    // What is known is not read again.
    let zips = fake.stats().count(Operation::ArtifactZip);
    let again = nix_cache(&place, &fake, RestPermission::Read, &import);
    assert!(again.log.contains("1 known already") && again.log.contains("There is nothing to import."), "{again:?}");
    let read = fake.stats().count(Operation::ArtifactZip) - zips;
    assert!(read < 6, "{read} archives were read again");

    // The same name with another content, as if the first had never been there.
    let elsewhere = format!("dir:{}", place.machine.path("third").display());
    let import = ["history", "import", "--github", "--remote", &elsewhere];
    fake.advance(Duration::from_hours(24 * 91));
    let expired = nix_cache(&place, &fake, RestPermission::Read, &import);
    assert!(expired.log.contains("7 expired") && expired.log.contains("nothing to import"), "{expired:?}");
    for (name, zip, _) in &hostile[6..] {
        fake.put_artifact(name, zip);
    }
    let lies = nix_cache(&place, &fake, RestPermission::Read, &import);
    for (_, _, why) in &hostile[6..] {
        assert!(lies.log.contains(why), "{why}: {lies:?}");
    }
    assert!(lies.log.contains(&format!("7 expired, {} left out", count - 6)), "{lies:?}");
    assert_eq!(exported(&place, &elsewhere), [] as [Value; 0]);
}

#[test]
fn the_dashboard_shows_jobs_of_forks_and_says_which_are_left_out() {
    let Some(nix) = nix::all().first() else { return };
    let place = Place::new(nix);
    let fake = of_a_fork();
    let id = fork(&place, &fake, "fork");
    fake.put_artifact(&format!("nix-cache-history-{id}-1-0123456789ab"), b"text");
    let out = place.machine.path("page");
    let make = ["dashboard", "--github-artifacts", "--out", out.to_str().unwrap()];
    let with = nix_cache(&place, &fake, RestPermission::Read, &make);
    assert!(with.code == Some(0) && with.log.contains("The dashboard of 1 run"), "{with:?}");
    let page = fs::read_to_string(out.join("index.html")).unwrap();
    assert!(page.contains("pull/7/merge"), "{page}");
    assert!(page.contains("2 records of jobs in artifacts: 1 read, 1 left out."), "{page}");
    // Without the permission, there is a page that says so.
    let without = nix_cache(&place, &fake, RestPermission::None, &make);
    assert!(without.code == Some(0) && without.log.contains("`actions: read`"), "{without:?}");
    let page = fs::read_to_string(out.join("index.html")).unwrap();
    assert!(page.contains("The rest was not read: Cannot list the artifacts"), "{page}");
}

/// One call of GitHub's own client.
fn theirs(fake: &Fake, folder: &Path, arguments: &[&str]) -> Value {
    let output = Command::new("node")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node/artifact.mjs"))
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("GITHUB_WORKSPACE", folder)
        .env("GITHUB_SERVER_URL", "https://github.com")
        .envs(fake.env())
        .envs(fake.rest_env(RestPermission::Read))
        .output()
        .expect("node was found before");
    let out = String::from_utf8_lossy(&output.stdout);
    let outcome: Value = serde_json::from_str(out.lines().last().unwrap_or_default()).unwrap_or_default();
    assert!(!outcome["value"].is_null(), "{arguments:?}: {out}{}", String::from_utf8_lossy(&output.stderr));
    outcome["value"].clone()
}

#[test]
fn githubs_client_reads_our_artifacts_and_we_read_its() {
    if !has_artifact_client() {
        return;
    }
    let Some(nix) = nix::all().first() else { return };
    let place = Place::new(nix);
    let fake = of_a_fork();
    let id = fork(&place, &fake, "fork");
    let [(name, _, hash)] = fake.artifacts().try_into().unwrap();
    let number = id.to_string();
    // Within the run, and from another one through the REST interface.
    for of_run in [&[][..], &[&*number]] {
        let folder = place.machine.path(&format!("from-{}", of_run.len()));
        fs::create_dir_all(&folder).unwrap();
        let listed = theirs(&fake, &folder, &[&["list"], of_run].concat());
        assert_eq!((&listed[0]["name"], &listed[0]["digest"]), (&json!(name), &json!(hash)), "{listed}");
        let download = theirs(&fake, &folder, &[&["download", &name, folder.to_str().unwrap()], of_run].concat());
        assert_eq!(download["digestMismatch"], json!(false), "{download}");
        let record: Value = serde_json::from_str(&fs::read_to_string(folder.join("run.jsonl")).unwrap()).unwrap();
        assert_eq!((&record["run"], &record["hit"]), (&json!(id), &json!("miss")));
    }
    // The same record as their client uploads it, with compression and in blocks.
    let other = of_a_fork();
    other.begin(FakeRun { id, event: "pull_request", head: (66, "eve/nix", "main"), sha: HEAD, pulls: vec![7] });
    let folder = place.machine.path("from-0");
    let uploaded = theirs(&other, &folder, &["upload", &name, folder.join("run.jsonl").to_str().unwrap()]);
    assert!(uploaded["id"].as_u64() == Some(1) && uploaded["size"].as_u64() > Some(100), "{uploaded}");
    let remote = format!("dir:{}", place.machine.path("imported").display());
    let import = ["history", "import", "--github", "--remote", &remote];
    let imported = nix_cache(&place, &other, RestPermission::Read, &import);
    assert!(imported.code == Some(0) && imported.log.contains("1 run read: 1 imported."), "{imported:?}");
    assert_eq!(exported(&place, &remote)[0]["sha"], json!(HEAD));
}
