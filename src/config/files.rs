//! Reading files that may be anything: bounded, regular, and where they claim to be.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path};

use super::node::MAX_BYTES;

/// The bytes of a file that the user named on purpose.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    // Asked before opening, because opening a FIFO waits for its other end.
    let about = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "the file does not exist".to_owned(),
        std::io::ErrorKind::PermissionDenied => "the file may not be read by this user".to_owned(),
        _ => format!("the file cannot be read ({})", error.kind()),
    })?;
    if about.is_dir() {
        return Err("is a directory, not a file".into());
    }
    if !about.is_file() {
        return Err("is not a regular file (a pipe, socket or device)".into());
    }
    let mut bytes = Vec::new();
    // One byte more than allowed, so that a file growing while it is read is noticed.
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("the file cannot be read ({})", error.kind()))?;
    if bytes.len() > MAX_BYTES {
        return Err(format!("is larger than 1 MiB ({} bytes)", about.len()));
    }
    Ok(bytes)
}

/// The bytes of file `name`, which a configuration names and which must lie in `directory`.
pub(super) fn read_confined(directory: &Path, name: &str) -> Result<Vec<u8>, String> {
    let relative = Path::new(name);
    if relative.is_absolute() || relative.has_root() {
        return Err("must be relative to the file that names it".into());
    }
    for part in relative.components() {
        match part {
            Component::Normal(_) | Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err("must stay in the directory of the file that names it".into());
            }
        }
    }
    let missing = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            format!("the file does not exist in `{}`", directory.display())
        }
        kind => format!("the file cannot be read ({kind})"),
    };
    let root = directory.canonicalize().map_err(missing)?;
    let target = root.join(relative).canonicalize().map_err(missing)?;
    if !target.starts_with(&root) {
        return Err("is a link that leaves the directory of the file that names it".into());
    }
    read(&target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_inside_the_directory_are_read() {
        let outside = tempfile::tempdir().unwrap();
        let secret = outside.path().join("secret.yaml");
        std::fs::write(&secret, "a: 1").unwrap();
        let inside = outside.path().join("config");
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(inside.join("good.yaml"), "b: 2").unwrap();
        assert_eq!(read_confined(&inside, "good.yaml").unwrap(), b"b: 2");
        assert_eq!(read_confined(&inside, "./good.yaml").unwrap(), b"b: 2");
        for (name, part) in [
            ("../secret.yaml", "stay in"),
            ("x/../../secret.yaml", "stay in"),
            (secret.to_str().unwrap(), "relative"),
            ("none.yaml", "does not exist"),
            (".", "directory"),
        ] {
            let error = read_confined(&inside, name).unwrap_err();
            assert!(error.contains(part), "{name}: {error}");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&secret, inside.join("link.yaml")).unwrap();
            let error = read_confined(&inside, "link.yaml").unwrap_err();
            assert!(error.contains("link"), "{error}");
            assert!(read(Path::new("/dev/null")).unwrap_err().contains("regular"));
        }
    }

    #[test]
    fn a_file_of_more_than_a_mebibyte_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("big.yaml");
        std::fs::write(&path, vec![b'#'; MAX_BYTES + 1]).unwrap();
        assert!(read(&path).unwrap_err().contains("1 MiB"));
    }
}
