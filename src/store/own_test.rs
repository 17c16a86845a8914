use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use super::super::rights::as_owner;
use super::*;

fn store() -> (tempfile::TempDir, StoreDirs) {
    let dir = tempfile::tempdir().unwrap();
    let dirs = StoreDirs::new(Some(dir.path()));
    fs::create_dir_all(dirs.state_dir()).unwrap();
    fs::create_dir_all(dirs.real_store()).unwrap();
    (dir, dirs)
}

#[test]
fn json_takes_the_place_of_whatever_is_there() {
    let (dir, dirs) = store();
    let folder = OwnFolder::make(&dirs).unwrap();
    let victim = dir.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let place = dirs.own_dir().join(RECORD);
    for put in [
        &|| symlink(&victim, &place) as io::Result<()>,
        &|| fs::create_dir_all(place.join("in/it")),
        &|| fs::write(&place, "corrupt"),
        &|| fs::hard_link(&victim, &place),
    ] as [&dyn Fn() -> io::Result<()>; 4]
    {
        put().unwrap();
        folder.write_json(RECORD, &["new"]).unwrap();
        assert_eq!(folder.read_json::<Vec<String>>(RECORD).unwrap().unwrap(), ["new"]);
        folder.remove(RECORD).unwrap();
    }
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    assert_eq!(folder.names().unwrap(), Vec::<String>::new());
}

#[test]
fn no_link_is_followed() {
    let (dir, dirs) = store();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "precious").unwrap();
    let folder = OwnFolder::make(&dirs).unwrap();
    symlink(&outside, dirs.own_dir().join(LAYERS)).unwrap();
    assert!(folder.read_json::<Vec<String>>(LAYERS).is_err());
    let layers = folder.folder(LAYERS).unwrap();
    drop(layers.create("file").unwrap());
    symlink(&outside, dirs.own_dir().join("layers/link")).unwrap();
    symlink(outside.join("file"), dirs.own_dir().join("layers/other")).unwrap();
    drop(layers.create("other").unwrap());
    folder.remove(LAYERS).unwrap();
    assert!(!dirs.own_dir().join(LAYERS).exists());
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "precious");
    // The same for the folder itself.
    fs::remove_dir(dirs.own_dir()).unwrap();
    symlink(&outside, dirs.own_dir()).unwrap();
    assert!(OwnFolder::open(&dirs).is_err() && OwnFolder::make(&dirs).is_err());
}

#[test]
fn leftovers_go_and_what_is_locked_stays() {
    let (_dir, dirs) = store();
    let folder = OwnFolder::make(&dirs).unwrap();
    let hour_ago = std::time::SystemTime::now() - std::time::Duration::from_hours(1);
    let make = |name: &str| {
        let file = folder.create(name).unwrap();
        (&file).write_all(b"bytes").unwrap();
        file.set_modified(hour_ago).unwrap();
        file
    };
    let running = make("layer-1-a");
    rustix::fs::flock(&running, FlockOperation::LockShared).unwrap();
    drop(make("layer-2-b"));
    drop(make(".new-3-4"));
    drop(make("other"));
    folder.remove_leftovers();
    let mut names = folder.names().unwrap();
    names.sort();
    assert_eq!(names, ["layer-1-a", "other"]);
}

#[test]
fn the_owner_of_the_store_gets_what_root_left() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (_dir, dirs) = store();
    let folder = OwnFolder::make(&dirs).unwrap();
    drop(folder.lock_file().unwrap());
    folder.write_json(RECORD, &["old"]).unwrap();
    drop(folder.folder(INDEXES).unwrap().create("one").unwrap());
    drop(folder.folder(LAYERS).unwrap().create_private("layer").unwrap());
    let secret = dirs.state_dir().join("secret");
    fs::write(&secret, "root's").unwrap();
    fs::hard_link(&secret, dirs.own_dir().join("planted")).unwrap();
    symlink(&secret, dirs.own_dir().join("link")).unwrap();
    std::os::unix::fs::lchown(dirs.real_store(), Some(1234), Some(4321)).unwrap();

    let folder = OwnFolder::make(&dirs).unwrap();
    folder.hand_over().unwrap();
    folder.write_json(MOUNTED, &["new"]).unwrap();
    let owner = |path: &Path| fs::symlink_metadata(path).map(|data| (data.uid(), data.gid())).unwrap();
    for name in ["", LOCK, RECORD, INDEXES, "indexes/one", LAYERS, MOUNTED] {
        assert_eq!(owner(&dirs.own_dir().join(name)), (1234, 4321), "{name}");
    }
    assert_eq!(owner(&dirs.own_dir().join("layers/layer")), (0, 0));
    assert_eq!((owner(&secret), owner(&dirs.own_dir().join("planted"))), ((0, 0), (0, 0)));
}

#[test]
fn work_for_a_user_has_the_rights_of_that_user() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (dir, dirs) = store();
    let secret = dir.path().join("secret");
    fs::write(&secret, "root's").unwrap();
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert!(as_owner(&dirs, || fs::read(&secret)).unwrap().is_ok());
    fs::create_dir_all(dirs.state_dir().join("db")).unwrap();
    for path in [dirs.real_store(), dirs.state_dir().join("db")] {
        std::os::unix::fs::lchown(path, Some(1234), Some(4321)).unwrap();
    }
    let (read, inner) = as_owner(&dirs, || {
        let inner = std::thread::spawn(|| rustix::process::geteuid().as_raw());
        (fs::read(&secret), inner.join().unwrap())
    })
    .unwrap();
    assert_eq!((read.unwrap_err().kind(), inner), (ErrorKind::PermissionDenied, 1234));
    assert!(rustix::process::geteuid().is_root());
}
