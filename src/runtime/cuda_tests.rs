//! Looking for NVIDIA's libraries, on folders made up for it.

use super::*;

/// Empty files of these names in `folder`.
fn touch(folder: &Path, names: &[&str]) {
    fs::create_dir_all(folder).unwrap();
    for name in names {
        fs::write(folder.join(name), "").unwrap();
    }
}

#[test]
fn libraries_come_from_the_first_folder_that_has_them_and_are_never_mixed() {
    let root = tempfile::tempdir().unwrap();
    let packages = root.path().join("lib/python3.11/site-packages/nvidia");
    touch(
        &packages.join("cu13/lib"),
        &[
            "libcublas.so.13",
            "libcublasLt.so.13",
            "libcudart.so.13",
            "libcufft.so.12",
            "libcurand.so.10",
        ],
    );
    touch(&packages.join("cudnn/lib"), &["libcudnn.so.9"]);
    let other = root.path().join("cuda/lib64");
    touch(&other, &["libcudnn.so.9", "libcudnn_ops.so.9"]);
    let mut folders = python_folders(root.path());
    assert_eq!(
        folders,
        [packages.join("cu13/lib"), packages.join("cudnn/lib")]
    );
    folders.push(other);
    let store = Store::new(&root.path().join("cache"));
    let order = preload_order(&find(CUDA_13, &store, &folders)).unwrap();
    let names: Vec<_> = order
        .iter()
        .map(|path| path.strip_prefix(&packages).unwrap().to_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "cu13/lib/libcudart.so.13",
            "cu13/lib/libcublasLt.so.13",
            "cu13/lib/libcublas.so.13",
            "cu13/lib/libcurand.so.10",
            "cu13/lib/libcufft.so.12",
            "cudnn/lib/libcudnn.so.9",
        ]
    );
}

#[test]
fn each_missing_library_is_named_with_what_to_run() {
    let root = tempfile::tempdir().unwrap();
    touch(root.path(), &["libcudart.so.11.0", "libcublas.so.11"]);
    let store = Store::new(&root.path().join("cache"));
    let found = find(CUDA_11, &store, &[root.path().to_owned()]);
    assert_eq!(
        preload_order(&found).unwrap_err().to_string(),
        "libraries of NVIDIA's are missing: libcurand.so.10 (nvidia-curand-cu11-10.3.0.86), \
         libcufft.so.10 (nvidia-cufft-cu11-10.9.0.58), libcudnn.so.8 (nvidia-cudnn-cu11-8.9.6.50); \
         run `catalog runtime install --cuda`, or set CUDA_HOME or VIRTUAL_ENV to where they are"
    );
}

#[test]
fn a_build_without_cuda_is_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    let library = root.path().join("libonnxruntime.so");
    let message = check_provider(&library, "1.19.2").unwrap_err().to_string();
    assert!(
        message.starts_with(
            "ONNX Runtime 1.19.2 here is a build without CUDA: libonnxruntime_providers_cuda.so"
        ) && message.contains("catalog runtime install --cuda"),
        "{message}"
    );
    touch(root.path(), &[PROVIDER]);
    check_provider(&library, "1.19.2").unwrap();
}

#[test]
fn the_driver_tells_its_version_and_the_gpus() {
    let facts = tempfile::tempdir().unwrap();
    assert_eq!(Driver::read_from(facts.path()), Driver::default());
    check_number(&Driver::default(), 5).unwrap();
    fs::write(
        facts.path().join("version"),
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 07:19:11 UTC 2025\n",
    )
    .unwrap();
    for bus in ["0000:01:00.0", "0000:02:00.0"] {
        let gpu = facts.path().join("gpus").join(bus);
        fs::create_dir_all(&gpu).unwrap();
        fs::write(gpu.join("information"), "Model: \t\t NVIDIA H200\nIRQ: 5\n").unwrap();
    }
    let driver = Driver::read_from(facts.path());
    assert_eq!(driver.version.as_deref(), Some("580.65.06"));
    assert_eq!(driver.gpus, ["NVIDIA H200", "NVIDIA H200"]);
    check_number(&driver, 1).unwrap();
    assert_eq!(
        check_number(&driver, 2).unwrap_err().to_string(),
        "there is no GPU 2: this machine has 2, counted from 0 (NVIDIA H200, NVIDIA H200)"
    );
}

#[test]
fn each_version_has_its_libraries_and_each_component_its_key() {
    assert_eq!(components("1.19.2")[0].key, "libcudart.so.11.0");
    assert_eq!(components("1.31.1")[0].key, "libcudart.so.13");
    for component in CUDA_11.iter().chain(CUDA_13) {
        let files = component.wheel.files;
        assert!(
            files.iter().any(|member| member.name == component.key),
            "{}",
            component.key
        );
        for hash in files.iter().map(|member| member.sha256) {
            assert_eq!(hash.len(), 64, "{}", component.key);
        }
    }
}
