//! A log file that is renamed away when it is full: `file`, `file.1`, ... `file.N`.
//!
//! A line is never split between two files, and is written by one append, so that several
//! processes may share a file. Files are readable by their owner alone. What is not a regular
//! file (a link, a pipe, a device) is refused, lest a log end up where somebody else points.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::{Clock, Instant};
use crate::error::{Error, Kind, Result};

/// Lines are gathered up to this many bytes before they are written.
const BUFFER: usize = 64 * 1024;

/// How often to look whether the file is still where it was, and to retry a failed rotation.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A file of lines with a limit.
#[derive(Debug)]
pub struct RotatingFile {
    path: PathBuf,
    max_bytes: u64,
    backups: usize,
    clock: Clock,
    file: Option<File>,
    /// Bytes in the file.
    len: u64,
    /// Whole lines that are not in the file yet.
    buffer: Vec<u8>,
    looked: Instant,
    rotation_due: Instant,
    rotations: u64,
    failed_rotations: u64,
}

impl RotatingFile {
    /// Opens `path` for appending and creates it (0600) and its directory (0700) if need be.
    ///
    /// The file is rotated before it would grow past `max_bytes` (0: never); a line longer than
    /// that gets a file of its own. `backups` old files are kept; with 0 a full file is
    /// started afresh.
    ///
    /// # Errors
    /// [`Kind::Configuration`] with the path: it cannot be created or written, or is no
    /// regular file.
    pub fn open(
        path: impl Into<PathBuf>,
        max_bytes: u64,
        backups: usize,
        clock: &Clock,
    ) -> Result<Self> {
        let path = path.into();
        let mut file = RotatingFile {
            max_bytes,
            backups,
            clock: clock.clone(),
            file: None,
            len: 0,
            buffer: Vec::new(),
            looked: clock.now(),
            rotation_due: Instant::ZERO,
            rotations: 0,
            failed_rotations: 0,
            path,
        };
        file.reopen().map_err(|error| {
            let message = format!("cannot write the log file `{}`: {error}", file.path.display());
            Error::new(Kind::Configuration, "open the log file", message)
                .with("path", file.path.display().to_string())
                .with_source(error)
        })?;
        Ok(file)
    }

    /// Where it writes.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many times it was rotated.
    pub fn rotations(&self) -> u64 {
        self.rotations
    }

    /// How many times it could not be rotated; it then goes on growing.
    pub fn failed_rotations(&self) -> u64 {
        self.failed_rotations
    }

    /// Adds one line, without its end; it is in the file after [`RotatingFile::flush`].
    ///
    /// # Errors
    /// Writing earlier lines failed: they and this one wait for [`RotatingFile::take_unwritten`].
    pub fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        let size = line.len() as u64 + 1;
        let full = self.max_bytes > 0 && self.filled() + size > self.max_bytes && self.filled() > 0;
        let mut result = Ok(());
        if full && self.clock.now() >= self.rotation_due {
            result = self.flush();
            if result.is_ok() && self.len > 0 && self.rotate().is_err() {
                self.failed_rotations += 1;
                self.rotation_due = self.clock.now().saturating_add(LOOK_EVERY);
                // Too large a file is better than a lost line.
                result = self.reopen();
            }
        } else if self.buffer.len() > BUFFER {
            result = self.flush();
        }
        self.buffer.extend_from_slice(line);
        self.buffer.push(b'\n');
        result
    }

    /// Adds one line and, if `resting`, leaves the file itself alone: the line waits for
    /// [`RotatingFile::take_unwritten`].
    pub(super) fn write_line_unless(&mut self, resting: bool, line: &[u8]) -> io::Result<()> {
        if !resting {
            return self.write_line(line);
        }
        self.buffer.extend_from_slice(line);
        self.buffer.push(b'\n');
        Ok(())
    }

    /// Writes what was gathered.
    ///
    /// # Errors
    /// None of it is in the file: it waits for [`RotatingFile::take_unwritten`] or for the next
    /// flush, which opens the file anew.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.look()?;
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
        match file.write_all(&self.buffer) {
            Ok(()) => {
                self.len += self.buffer.len() as u64;
                self.buffer.clear();
                Ok(())
            }
            Err(error) => {
                // Half a line must not stay, unless another process wrote behind it. If it cannot
                // be removed, there is nothing better.
                let ours = self.len + self.buffer.len() as u64;
                if file.metadata().is_ok_and(|there| there.len() <= ours) {
                    let _ = file.set_len(self.len);
                }
                self.file = None;
                Err(error)
            }
        }
    }

    /// The lines that could not be written; they are then no longer this file's.
    pub fn take_unwritten(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    fn filled(&self) -> u64 {
        self.len + self.buffer.len() as u64
    }

    /// Opens the file again if it is gone, or if another process put another in its place.
    fn look(&mut self) -> io::Result<()> {
        let now = self.clock.now();
        let Some(file) = &self.file else { return self.reopen() };
        if now.saturating_since(self.looked) < LOOK_EVERY {
            return Ok(());
        }
        self.looked = now;
        let open = file.metadata()?;
        match fs::symlink_metadata(&self.path) {
            Ok(there) if is_same(&there, &open) => {
                self.len = open.len(); // others may append, too
                Ok(())
            }
            _ => self.reopen(),
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.file = None;
        let file = open_private(&self.path)?;
        self.len = file.metadata()?.len();
        self.file = Some(file);
        self.looked = self.clock.now();
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.backups == 0 {
            fs::remove_file(&self.path)?;
        } else {
            // From the oldest on: each name is free before something is renamed to it, and the
            // oldest file is replaced in one step.
            for number in (1..self.backups).rev() {
                match fs::rename(self.backup(number), self.backup(number + 1)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            fs::rename(&self.path, self.backup(1))?;
        }
        self.rotations += 1;
        self.reopen()
    }

    fn backup(&self, number: usize) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    /// Puts another file behind the same path.
    #[cfg(test)]
    pub(super) fn replace_file(&mut self, file: File) {
        self.file = Some(file);
    }
}

fn is_same(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Opens for appending without following a link: a new file is created exclusively, and an
/// existing one is looked at before it is opened and must be the same afterwards. (O_NOFOLLOW
/// would say the same in one flag, but its value differs from machine to machine.)
fn open_private(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    match OpenOptions::new().append(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => {
            // The mode above is subject to the umask, this one is not.
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
            return Ok(file);
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let before = fs::symlink_metadata(path)?;
    if !before.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let file = OpenOptions::new().append(true).open(path)?;
    if !is_same(&before, &file.metadata()?) {
        return Err(io::Error::other("it was replaced while being opened"));
    }
    if before.mode() & 0o077 != 0 {
        // Somebody else's file keeps its mode; then this fails, and that is no reason not to log.
        let _ = file.set_permissions(fs::Permissions::from_mode(0o600));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o777
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn files_rotate_by_size_and_keep_every_line_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logs/system.log");
        let mut file = RotatingFile::open(&path, 100, 3, &Clock::simulated(0)).unwrap();
        for number in 0..60 {
            file.write_line(format!("line {number:04}").as_bytes()).unwrap();
        }
        file.flush().unwrap();
        assert_eq!(file.rotations(), 5);
        let logs = path.parent().unwrap();
        assert_eq!(names(logs), ["system.log", "system.log.1", "system.log.2", "system.log.3"]);
        assert_eq!((mode(logs), mode(&path), mode(&file.backup(3))), (0o700, 0o600, 0o600));
        let mut kept = String::new();
        for number in (0..=3).rev() {
            let part = if number == 0 { path.clone() } else { file.backup(number) };
            let text = fs::read_to_string(part).unwrap();
            assert!(text.len() <= 100 && text.ends_with('\n'));
            kept.push_str(&text);
        }
        let expected: Vec<String> = (20..60).map(|number| format!("line {number:04}")).collect();
        assert_eq!(kept.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn an_existing_file_is_continued_and_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.log");
        fs::write(&path, "old\n").unwrap();
        let mut file = RotatingFile::open(&path, 10, 1, &Clock::simulated(0)).unwrap();
        file.write_line(b"one").unwrap();
        file.write_line(b"a line longer than any file").unwrap();
        file.write_line(b"two").unwrap();
        file.flush().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
        assert_eq!(fs::read_to_string(file.backup(1)).unwrap(), "a line longer than any file\n");
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn without_backups_a_full_file_starts_afresh() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.log");
        let mut file = RotatingFile::open(&path, 8, 0, &Clock::simulated(0)).unwrap();
        for line in ["one", "two", "three"] {
            file.write_line(line.as_bytes()).unwrap();
        }
        file.flush().unwrap();
        assert_eq!(names(directory.path()), ["a.log"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
    }

    #[test]
    fn links_devices_and_impossible_places_are_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let victim = directory.path().join("victim");
        let link = directory.path().join("link.log");
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        fs::write(directory.path().join("plain"), "").unwrap();
        let below_a_file = directory.path().join("plain/a.log");
        for path in [&link, Path::new("/dev/full"), directory.path(), &below_a_file] {
            let error = RotatingFile::open(path, 0, 1, &Clock::simulated(0)).unwrap_err();
            assert_eq!(error.kind(), Kind::Configuration);
            assert!(error.message().contains(path.to_str().unwrap()), "{error}");
        }
        assert!(!victim.exists());
    }

    #[test]
    fn a_full_disk_hands_the_lines_back_and_is_forgotten_when_there_is_room() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.log");
        let mut file = RotatingFile::open(&path, 0, 1, &Clock::simulated(0)).unwrap();
        file.replace_file(OpenOptions::new().write(true).open("/dev/full").unwrap());
        file.write_line(b"one").unwrap();
        assert_eq!(file.flush().unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.take_unwritten(), b"one\n");
        file.write_line(b"two").unwrap();
        file.flush().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
    }

    #[test]
    fn a_file_taken_away_is_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logs/a.log");
        let clock = Clock::simulated(0);
        let mut file = RotatingFile::open(&path, 0, 1, &clock).unwrap();
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        clock.advance(LOOK_EVERY);
        file.write_line(b"here").unwrap();
        file.flush().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "here\n");
    }

    #[test]
    fn a_rotation_that_fails_loses_nothing_and_is_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.log");
        let clock = Clock::simulated(0);
        let mut file = RotatingFile::open(&path, 8, 1, &clock).unwrap();
        let blocker = file.backup(1);
        fs::create_dir(&blocker).unwrap();
        for line in ["one", "two", "three"] {
            file.write_line(line.as_bytes()).unwrap();
        }
        file.flush().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\n");
        assert_eq!((file.rotations(), file.failed_rotations()), (0, 1));
        fs::remove_dir(&blocker).unwrap();
        clock.advance(LOOK_EVERY);
        file.write_line(b"four").unwrap();
        file.flush().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "four\n");
        assert_eq!(fs::read_to_string(&blocker).unwrap(), "one\ntwo\nthree\n");
    }
}
