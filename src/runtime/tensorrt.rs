//! TensorRT, with which ONNX Runtime can classify on NVIDIA GPUs beside CUDA. The program does not install it: it is used where it is.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};

use super::Runtime;
use super::cuda::{
    self, SYSTEM_LIBRARIES, SYSTEM_PYTHONS, entries, python_environments, site_packages,
};

/// The file beside the ONNX Runtime library that computes with TensorRT.
const PROVIDER: &str = "libonnxruntime_providers_tensorrt.so";
/// What the provider of `onnxruntime-gpu` 1.31.1 loads, in the order of loading.
const LIBRARIES: [&str; 2] = ["libnvinfer.so.10", "libnvonnxparser.so.10"];
/// Not needed, and loaded where it is.
const PLUGINS: &str = "libnvinfer_plugin.so.10";
/// How the names of the libraries begin that are needed to compile.
const RESOURCES: &str = "libnvinfer_builder_resource";
/// How to get them.
const ADVICE: &str = "`pip install tensorrt-cu13-libs==10.16.1.11` into the environment of VIRTUAL_ENV gets them, or TENSORRT_HOME says where they are";

/// The library whose presence says that a folder holds TensorRT.
pub const KEY: &str = LIBRARIES[0];

/// Makes the process ready to classify on GPU `number` with TensorRT, and with CUDA for what it does not know.
///
/// # Errors
/// When a piece is missing or cannot be loaded; the message names it and says what to do.
pub fn prepare(runtime: &Runtime, number: u32) -> Result<()> {
    check_provider(&runtime.path, &runtime.version)?;
    cuda::prepare(runtime, number)?;
    let folders = search_folders();
    let folder = find(&folders)?;
    for path in files(folder) {
        ort::util::preload_dylib(&path)
            .with_context(|| format!("cannot load {}", path.display()))?;
        tracing::debug!("loaded {}", path.display());
    }
    Ok(())
}

/// The files to load, in this order. TensorRT itself opens the builder's resources by their mere names.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = LIBRARIES.iter().map(|name| folder.join(name)).collect();
    let mut others = entries(folder);
    others.retain(|path| {
        let name = path.file_name().map(|name| name.to_string_lossy());
        name.is_some_and(|name| {
            name == PLUGINS || (name.starts_with(RESOURCES) && name.contains(".so.10"))
        })
    });
    others.sort();
    files.extend(others);
    files
}

/// The folder in which TensorRT keeps what it compiled of the model with this checksum. It is made where it is missing.
///
/// # Errors
/// When it cannot be made.
pub fn engine_folder(cache: &Path, checksum: &str) -> Result<PathBuf> {
    let folder = cache.join("tensorrt").join(checksum);
    let is_new = entries(&folder).is_empty();
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    if is_new {
        tracing::info!(
            "TensorRT compiles the model, which takes from seconds to minutes, and keeps the result in {}",
            folder.display()
        );
    }
    Ok(folder)
}

/// Whether the library at `path` can use TensorRT at all.
///
/// # Errors
/// When nothing beside it does that.
pub fn check_provider(path: &Path, version: &str) -> Result<()> {
    ensure!(
        path.with_file_name(PROVIDER).is_file(),
        "ONNX Runtime {version} here is a build without TensorRT: {PROVIDER} is not beside {}; run `catalog runtime install --cuda`",
        path.display()
    );
    Ok(())
}

/// The first of `folders` that holds TensorRT.
///
/// # Errors
/// When none does, or one of its libraries is not there.
pub fn find(folders: &[PathBuf]) -> Result<&Path> {
    let folder = folders
        .iter()
        .find(|folder| folder.join(KEY).is_file())
        .ok_or_else(|| anyhow!("TensorRT was not found ({KEY}); {ADVICE}"))?;
    let missing = LIBRARIES.iter().find(|name| !folder.join(name).is_file());
    match missing {
        None => Ok(folder),
        Some(name) => Err(anyhow!(
            "{} has {KEY} but not {name}; {ADVICE}",
            folder.display()
        )),
    }
}

/// The folders where TensorRT may lie: its own, then those of Python environments and of the system.
pub fn search_folders() -> Vec<PathBuf> {
    let in_python = |root: &Path| {
        let packages = site_packages(root).into_iter();
        packages.map(|folder| folder.join("tensorrt_libs"))
    };
    let home = env::var_os("TENSORRT_HOME").filter(|root| !root.is_empty());
    let mut folders: Vec<_> = home
        .map(|root| Path::new(&root).join("lib"))
        .into_iter()
        .collect();
    folders.extend(
        python_environments()
            .iter()
            .flat_map(|root| in_python(root)),
    );
    folders.push(PathBuf::from(SYSTEM_LIBRARIES));
    folders.extend(
        SYSTEM_PYTHONS
            .into_iter()
            .flat_map(|root| in_python(Path::new(root))),
    );
    folders.retain(|folder| folder.is_dir());
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensorrt_is_whole_or_the_missing_piece_is_named() {
        let root = tempfile::tempdir().unwrap();
        let folder = root
            .path()
            .join("lib/python3.12/site-packages/tensorrt_libs");
        fs::create_dir_all(&folder).unwrap();
        assert_eq!(
            site_packages(root.path()),
            [folder.parent().unwrap().to_owned()]
        );
        let folders = [root.path().to_owned(), folder.clone()];
        let message = find(&folders).unwrap_err().to_string();
        assert!(
            message.starts_with("TensorRT was not found (libnvinfer.so.10); `pip install"),
            "{message}"
        );
        fs::write(folder.join(KEY), "").unwrap();
        let message = find(&folders).unwrap_err().to_string();
        assert!(
            message.contains("has libnvinfer.so.10 but not libnvonnxparser.so.10"),
            "{message}"
        );
        fs::write(folder.join(LIBRARIES[1]), "").unwrap();
        assert_eq!(find(&folders).unwrap(), folder);
        let compiling = "libnvinfer_builder_resource_sm90.so.10.16.1";
        for name in [PLUGINS, compiling, "libnvinfer_builder_resource.so.9", "x"] {
            fs::write(folder.join(name), "").unwrap();
        }
        let names = [LIBRARIES[0], LIBRARIES[1], compiling, PLUGINS];
        assert_eq!(files(&folder), names.map(|name| folder.join(name)));
    }

    #[test]
    fn every_model_has_a_folder_of_its_own() {
        let cache = tempfile::tempdir().unwrap();
        let cache = cache.path().join("not/there/yet");
        let [one, other] = ["a1", "b2"].map(|sum| engine_folder(&cache, sum).unwrap());
        assert!(one.is_dir() && other.is_dir() && one != other);
        assert_eq!(engine_folder(&cache, "a1").unwrap(), one);
    }

    #[test]
    fn a_build_without_tensorrt_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("libonnxruntime.so");
        let message = check_provider(&library, "1.19.2").unwrap_err().to_string();
        assert!(
            message.starts_with("ONNX Runtime 1.19.2 here is a build without TensorRT"),
            "{message}"
        );
        fs::write(folder.path().join(PROVIDER), "").unwrap();
        check_provider(&library, "1.19.2").unwrap();
    }
}
