//! Stacks that were written without the GIL, read.

use std::borrow::Cow;
use std::fmt::Write;

/// A line of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Frame<'a> {
    file: &'a str,
    line: &'a str,
    name: &'a str,
}

impl std::fmt::Display for Frame<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{} in {}", plain(self.file), self.line, plain(self.name))
    }
}

/// How a dump writes names: of so many characters the first, and those that are not ASCII by their
/// numbers.
fn written(text: &str) -> Cow<'_, str> {
    const MOST: usize = 500;
    let is_plain = |c: char| matches!(c, ' '..='~');
    if text.len() <= MOST && text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    let mut left = text.chars();
    for c in left.by_ref().take(MOST) {
        let _ = match u32::from(c) {
            _ if is_plain(c) => write!(out, "{c}"),
            number @ ..=0xff => write!(out, "\\x{number:02x}"),
            number @ ..=0xffff => write!(out, "\\u{number:04x}"),
            number => write!(out, "\\U{number:08x}"),
        };
    }
    if left.next().is_some() {
        out.push_str("...");
    }
    Cow::Owned(out)
}

/// What a dump has written, for people. Of what is ASCII nothing is written by its number.
fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let digits = match rest.as_bytes().get(1) {
            Some(b'x') => 2,
            Some(b'u') => 4,
            Some(b'U') => 8,
            _ => 0,
        };
        let number = rest.get(2..2 + digits).and_then(|d| u32::from_str_radix(d, 16).ok());
        match number.and_then(char::from_u32).filter(|c| !matches!(c, ' '..='~')) {
            Some(c) => {
                out.push(c);
                rest = &rest[2 + digits..];
            }
            None => {
                out.push('\\');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Where code is defined: `file:line in name`.
#[derive(Clone, Debug)]
pub struct Home {
    /// The file.
    pub file: String,
    /// The first line there.
    pub line: u32,
    /// The qualified name.
    pub name: String,
}

impl Home {
    fn is_of(&self, frame: &Frame<'_>) -> bool {
        // A dump has the last part of the name alone.
        let name = self.name.rsplit('.').next().unwrap_or_default();
        frame.file == written(&self.file) && frame.name == written(name)
    }
}

impl std::fmt::Display for Home {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{} in {}", self.file, self.line, self.name)
    }
}

/// The threads of a dump, each with its frames from the innermost outwards; without a number the
/// one that was asked for.
fn threads(dump: &str) -> Vec<(Option<u64>, Vec<Frame<'_>>)> {
    let mut all: Vec<(Option<u64>, Vec<Frame<'_>>)> = Vec::new();
    for line in dump.lines() {
        if line.starts_with("Stack (") {
            all.push((None, Vec::new()));
        } else if let Some((_, rest)) = line.split_once("hread 0x") {
            let digits = rest.split(|c: char| !c.is_ascii_hexdigit()).next().unwrap_or_default();
            if let Ok(ident) = u64::from_str_radix(digits, 16) {
                all.push((Some(ident), Vec::new()));
            }
        } else if let (Some(frame), Some((_, frames))) = (frame(line), all.last_mut()) {
            frames.push(frame);
        }
    }
    all
}

/// `  File "x.py", line 3 in name`.
fn frame(line: &str) -> Option<Frame<'_>> {
    let (file, rest) = line.trim_start().strip_prefix("File \"")?.rsplit_once("\", line ")?;
    let (line, name) = rest.split_once(" in ")?;
    Some(Frame { file, line, name })
}

/// Where the thread stands that is known by `ident`, or else one that is in the code that lives at
/// `home`: from the frame of that code inwards, if it is there.
pub fn stack_of(dump: &str, ident: Option<u64>, home: Option<&Home>) -> Option<Vec<String>> {
    let all = threads(dump);
    let own = |frames: &[Frame<'_>]| {
        home.and_then(|home| frames.iter().position(|frame| home.is_of(frame)))
    };
    let (_, frames) = match ident {
        Some(ident) => all.iter().find(|(other, _)| other.is_none_or(|other| other == ident))?,
        None => all.iter().find(|(_, frames)| own(frames).is_some())?,
    };
    let most = own(frames).map_or(frames.len(), |at| at + 1);
    let stack: Vec<String> = frames[..most].iter().rev().map(Frame::to_string).collect();
    (!stack.is_empty()).then_some(stack)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "Thread 0x00007f1821eef6c0 (most recent call first):\n\
        \x20 File \"/a/deep, line.py\", line 7 in inner\n\
        \x20 File \"/a/mine.py\", line 12 in on_a\n\
        \x20 File \"/usr/lib/asyncio/events.py\", line 80 in _run\n\
        \n\
        Current thread 0x00000000000000ff (most recent call first):\n\
        \x20 <no Python frame>\n";

    #[test]
    fn a_dump_is_read_from_the_handler_inwards() {
        let name = "Careless.on_a".to_owned();
        let home = Home { file: "/a/mine.py".into(), line: 11, name };
        let expected = ["/a/mine.py:12 in on_a", "/a/deep, line.py:7 in inner"];
        let ident = Some(0x7f18_21ee_f6c0);
        assert_eq!(stack_of(DUMP, ident, Some(&home)).unwrap(), expected);
        assert_eq!(stack_of(DUMP, None, Some(&home)).unwrap(), expected);
        assert_eq!(stack_of(DUMP, ident, None).unwrap().len(), 3);
        assert_eq!(stack_of(DUMP, Some(0xff), Some(&home)), None);
        assert_eq!(stack_of(DUMP, Some(1), Some(&home)), None);
        assert_eq!(home.to_string(), "/a/mine.py:11 in Careless.on_a");
    }

    #[test]
    fn the_thread_that_was_asked_for_and_names_that_are_not_ascii() {
        const ONE: &str = "Stack (most recent call first):\n\
            \x20 File \"/a/\\u4ef7.py\", line 7 in h\\xe4lt\n\
            \x20 File \"/a/\\u4ef7.py\", line 12 in gr\\xf6\\xdfe\n\
            \x20 File \"/b/\\x41\\n.py\", line 80 in \\U0001f600\n";
        let home = Home { file: "/a/价.py".into(), line: 11, name: "Größe.größe".into() };
        let expected = ["/a/价.py:12 in größe", "/a/价.py:7 in hält"];
        assert_eq!(stack_of(ONE, Some(1), Some(&home)).unwrap(), expected);
        let all = stack_of(ONE, Some(1), None).unwrap();
        assert_eq!(all[0], "/b/\\x41\\n.py:80 in 😀");
        assert_eq!(written(&"é".repeat(501)), format!("{}...", "\\xe9".repeat(500)));
    }
}
