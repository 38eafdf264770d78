//! Compiles every protobuf file below this folder, without any tool outside the build.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut protos = Vec::new();
    for folder in ["google", "musubi"] {
        println!("cargo:rerun-if-changed={folder}");
        collect_protos(&root.join(folder), &mut protos)?;
    }
    protos.sort();

    // With source info for the doc comments of the generated code.
    let mut documented = protox::Compiler::new([&root])?;
    documented
        .include_imports(true)
        .include_source_info(true)
        .open_files(&protos)?;
    tonic_prost_build::configure()
        .bytes(".musubi.hub.v1")
        .compile_fds(documented.file_descriptor_set())?;

    // The encoded form keeps the custom options, which the typed form would lose.
    let mut bare = protox::Compiler::new([&root])?;
    bare.include_imports(true)
        .include_source_info(false)
        .open_files(&protos)?;
    fs::write(out.join("musubi.binpb"), bare.encode_file_descriptor_set())?;
    Ok(())
}

fn collect_protos(folder: &Path, protos: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect_protos(&path, protos)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "proto")
        {
            protos.push(path);
        }
    }
    Ok(())
}
