//! Installation from wheels made here: nothing is fetched.

use std::io::{Cursor, Write};
use std::thread;

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;
use crate::runtime::digest::sha256;
use crate::runtime::staging::UNFINISHED;
use crate::runtime::wheel::{Accelerator, Platform};

/// A wheel of two files, as table entry and as bytes.
fn wheel(library: &[u8], companion: &[u8]) -> (Wheel, Vec<u8>) {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in [
        ("capi/state.so", library),
        ("capi/provider.so", companion),
        ("capi/unused.py", b"pass"),
    ] {
        archive
            .start_file(name, SimpleFileOptions::default())
            .unwrap();
        archive.write_all(bytes).unwrap();
    }
    let bytes = archive.finish().unwrap().into_inner();
    let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    let member = |source, name, bytes: &[u8]| Member {
        source,
        name,
        size: bytes.len() as u64,
        sha256: leak(sha256(bytes)),
        original: None,
    };
    let files = vec![
        member("capi/state.so", "libonnxruntime.so", library),
        member(
            "capi/provider.so",
            "libonnxruntime_providers_shared.so",
            companion,
        ),
    ];
    let wheel = Wheel {
        name: "onnxruntime",
        version: "1.0.0",
        sha256: leak(sha256(&bytes)),
        size: bytes.len() as u64,
        tag: "any",
        platform: Platform::current(),
        accelerator: Accelerator::None,
        training: false,
        files: files.leak(),
    };
    (wheel, bytes)
}

/// A cache folder with a wheel file beside it.
struct Scene {
    folder: TempDir,
    wheel: Wheel,
    wheel_path: PathBuf,
    store: Store,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (wheel, bytes) = wheel(b"the library", b"its companion");
        let wheel_path = folder.path().join("onnxruntime.whl");
        fs::write(&wheel_path, bytes).unwrap();
        let store = Store::new(&folder.path().join("cache"));
        Self {
            folder,
            wheel,
            wheel_path,
            store,
        }
    }

    fn install(&self) -> Result<Installed> {
        self.store
            .install(&self.wheel, Source::File(&self.wheel_path))
    }

    fn state(&self) -> State {
        self.store.state(&self.wheel, Depth::Quick)
    }

    /// Everything in the store but the lock, sorted.
    fn entries(&self) -> Vec<String> {
        let entries = self
            .store
            .root
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = entries.filter(|name| name != ".lock").collect();
        names.sort();
        names
    }
}

#[test]
fn an_installation_holds_the_files_and_nothing_else() {
    let scene = Scene::new();
    assert_eq!(scene.state(), State::Missing);
    let installed = scene.install().unwrap();
    assert!(installed.new);
    assert_eq!(
        installed.path,
        scene
            .folder
            .path()
            .join("cache/onnxruntime/onnxruntime-1.0.0/libonnxruntime.so")
    );
    assert_eq!(fs::read(&installed.path).unwrap(), b"the library");
    assert_eq!(
        fs::read(
            installed
                .path
                .with_file_name("libonnxruntime_providers_shared.so")
        )
        .unwrap(),
        b"its companion"
    );
    assert_eq!(
        installed.path.parent().unwrap().read_dir().unwrap().count(),
        2
    );
    assert_eq!(scene.state(), State::Installed);
    assert_eq!(scene.entries(), ["onnxruntime-1.0.0"]);

    let again = scene.install().unwrap();
    assert_eq!(
        again,
        Installed {
            new: false,
            ..installed
        }
    );
}

#[test]
fn deleting_the_cache_changes_nothing() {
    let scene = Scene::new();
    let first = scene.install().unwrap();
    fs::remove_dir_all(scene.folder.path().join("cache")).unwrap();
    assert_eq!(scene.state(), State::Missing);
    assert_eq!(scene.install().unwrap(), first);
}

#[test]
fn a_damaged_library_is_noticed_and_replaced() {
    let scene = Scene::new();
    let path = scene.install().unwrap().path;
    let companion = path.with_file_name("libonnxruntime_providers_shared.so");
    let damages: [(&Path, Option<&[u8]>); 5] = [
        (&path, Some(b"the librarY")),
        (&path, Some(b"the lib")),
        (&path, None),
        (&companion, Some(b"")),
        (&companion, None),
    ];
    for (damaged, bytes) in damages {
        match bytes {
            Some(bytes) => fs::write(damaged, bytes).unwrap(),
            None => fs::remove_file(damaged).unwrap(),
        }
        let State::Damaged(reason) = scene.state() else {
            panic!("{damaged:?} {bytes:?} was not noticed")
        };
        assert!(reason.contains(damaged.to_str().unwrap()), "{reason}");
        assert!(scene.install().unwrap().new);
        assert_eq!(scene.state(), State::Installed);
        assert_eq!(scene.entries(), ["onnxruntime-1.0.0"]);
    }
}

#[test]
fn a_file_in_the_place_of_the_folder_is_replaced() {
    let scene = Scene::new();
    fs::create_dir_all(&scene.store.root).unwrap();
    fs::write(scene.store.folder(&scene.wheel), "not a folder").unwrap();
    assert!(matches!(scene.state(), State::Damaged(_)));
    assert!(scene.install().unwrap().new);
    assert_eq!(scene.state(), State::Installed);
}

#[test]
fn a_wheel_with_another_hash_installs_nothing() {
    let scene = Scene::new();
    let mut bytes = fs::read(&scene.wheel_path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&scene.wheel_path, &bytes).unwrap();
    let message = format!("{:#}", scene.install().unwrap_err());
    assert!(
        message.contains(&format!("SHA-256 is {}", sha256(&bytes)))
            && message.contains(scene.wheel.sha256),
        "{message}"
    );
    assert_eq!(scene.state(), State::Missing);
    assert_eq!(scene.entries(), [""; 0]);
}

#[test]
fn a_wheel_with_other_files_installs_nothing() {
    let scene = Scene::new();
    let (other, bytes) = wheel(b"another library", b"its companion");
    // The wheel's hash is right, but what lies in it is not what the table says.
    let mixed = Wheel {
        sha256: other.sha256,
        ..scene.wheel.clone()
    };
    fs::write(&scene.wheel_path, bytes).unwrap();
    let message = format!(
        "{:#}",
        scene
            .store
            .install(&mixed, Source::File(&scene.wheel_path))
            .unwrap_err()
    );
    assert!(
        message.contains("libonnxruntime.so")
            && message.contains(&format!("expected {}", mixed.files[0].sha256)),
        "{message}"
    );
    assert_eq!(scene.entries(), [""; 0]);
}

#[test]
fn what_is_no_wheel_is_refused() {
    let scene = Scene::new();
    fs::write(&scene.wheel_path, "not a zip file").unwrap();
    let plain = Wheel {
        sha256: Box::leak(sha256(b"not a zip file").into_boxed_str()),
        ..scene.wheel.clone()
    };
    let message = format!(
        "{:#}",
        scene
            .store
            .install(&plain, Source::File(&scene.wheel_path))
            .unwrap_err()
    );
    assert!(
        message.starts_with("the wheel onnxruntime-1.0.0 is not a zip file"),
        "{message}"
    );
    let message = format!(
        "{:#}",
        scene
            .store
            .install(&plain, Source::File(Path::new("nowhere.whl")))
            .unwrap_err()
    );
    assert!(message.starts_with("cannot open nowhere.whl"), "{message}");
}

#[test]
fn a_wheel_is_known_by_its_hash() {
    let scene = Scene::new();
    let (other, _) = wheel(b"another library", b"");
    let found = identify(&scene.wheel_path, [&other, &scene.wheel].into_iter()).unwrap();
    assert_eq!(found.sha256, scene.wheel.sha256);
    let message = identify(&scene.wheel_path, [&other].into_iter())
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("is none of the wheels known for this platform: onnxruntime-1.0.0"),
        "{message}"
    );
}

#[test]
fn leftovers_of_a_stopped_installation_are_deleted() {
    let scene = Scene::new();
    let leftover = scene.store.root.join(format!("{UNFINISHED}abc"));
    fs::create_dir_all(&leftover).unwrap();
    fs::write(leftover.join("libonnxruntime.so"), "half").unwrap();
    assert_eq!(scene.state(), State::Missing);
    scene.install().unwrap();
    assert_eq!(scene.entries(), ["onnxruntime-1.0.0"]);
}

#[test]
fn of_many_at_once_one_installs_and_the_others_find_it() {
    let scene = Scene::new();
    let new = thread::scope(|scope| {
        let installations: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| scene.install().unwrap().new))
            .collect();
        installations
            .into_iter()
            .map(|installation| installation.join().unwrap())
            .filter(|&new| new)
            .count()
    });
    assert_eq!(new, 1);
    assert_eq!(scene.entries(), ["onnxruntime-1.0.0"]);
}

#[test]
fn a_cache_that_cannot_be_made_is_named() {
    let scene = Scene::new();
    let store = Store::new(&scene.wheel_path.join("cache"));
    let message = format!(
        "{:#}",
        store
            .install(&scene.wheel, Source::File(&scene.wheel_path))
            .unwrap_err()
    );
    assert!(
        message.contains("onnxruntime.whl/cache/onnxruntime") && message.contains("--cache DIR"),
        "{message}"
    );
}
