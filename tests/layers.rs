//! The two rules of the house, enforced: lower layers know no higher one, and only
//! `src/python` says `pyo3`. Beside them the things that have one place each.

use std::fs;
use std::path::{Path, PathBuf};

/// Every module of the crate with its layer; a module may use its own layer and those below.
const LAYERS: [(&str, u8); 20] = [
    ("error", 0),
    ("buckets", 0),
    ("clock", 0),
    ("shutdown", 0),
    ("deadlines", 0),
    ("sync", 0),
    ("event", 1),
    ("topic", 1),
    ("filter", 1),
    ("lifecycle", 1),
    ("health", 1),
    ("resilience", 2),
    ("config", 2),
    ("store", 2),
    ("transport", 2),
    ("bus", 3),
    ("registry", 4),
    ("recovery", 4),
    ("telemetry", 4),
    ("framework", 5),
];

/// Above everything; the only one that nobody may name.
const TOP: &str = "python";

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Each file as (path below `src`, its text without comments).
fn files() -> Vec<(String, String)> {
    let mut paths = Vec::new();
    rust_files(&source("src"), &mut paths);
    paths.sort();
    assert!(paths.len() > 50, "this looks at the whole of `src`");
    let name = |path: &PathBuf| {
        path.strip_prefix(source("src")).unwrap().to_str().unwrap().replace('\\', "/")
    };
    paths.iter().map(|path| (name(path), code(&fs::read_to_string(path).unwrap()))).collect()
}

/// Comments may name anything. A `//` inside a text ends the line here too, which hides only
/// what stands behind a URL.
fn code(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// `bus/guard.rs` is in `bus`, `topic.rs` is `topic`, `lib.rs` is nowhere.
fn module_of(file: &str) -> Option<&str> {
    let first = file.split('/').next().unwrap().trim_end_matches(".rs");
    (first != "lib").then_some(first)
}

fn layer_of(module: &str) -> Option<u8> {
    if module == TOP {
        return Some(u8::MAX);
    }
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// The modules named behind each `prefix`, a `{a, b::c}` list included.
fn named(text: &str, prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices(prefix) {
        let whole_word =
            !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
        let rest = &text[at + prefix.len()..];
        if !whole_word {
            continue;
        }
        let Some(list) = rest.strip_prefix('{') else {
            found.push(identifier(rest).to_owned());
            continue;
        };
        let (mut depth, mut start) = (1, true);
        for (index, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => start = true,
                c if start && depth == 1 && !c.is_whitespace() => {
                    found.push(identifier(&list[index..]).to_owned());
                    start = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

/// What a file reaches at the root of the crate: by `crate::`, and by as many `super::` as lead
/// there.
fn reaches(file: &str, text: &str) -> Vec<String> {
    let mut found = named(text, "crate::");
    let parts: Vec<&str> = file.trim_end_matches(".rs").split('/').collect();
    let depth = if parts.last() == Some(&"mod") { parts.len() - 1 } else { parts.len() };
    let up = "super::".repeat(depth);
    // One more `super` is for an inline module such as `mod tests`.
    for prefix in [up.clone(), format!("super::{up}")] {
        let names = named(text, &prefix);
        found.extend(names.into_iter().filter(|name| layer_of(name).is_some()));
    }
    found
}

fn upward(file: &str, text: &str) -> Vec<String> {
    let Some(module) = module_of(file) else { return Vec::new() };
    let Some(own) = layer_of(module) else {
        return vec![format!("{file}: `{module}` has no layer; give it one in this test")];
    };
    let above = |name: &String| layer_of(name).is_some_and(|layer| layer > own);
    let names = reaches(file, text).into_iter().filter(above);
    names.map(|name| format!("{file}: `{module}` (layer {own}) must not know `{name}`")).collect()
}

#[test]
fn lower_layers_know_no_higher_one() {
    let wrong: Vec<String> = files().iter().flat_map(|(file, text)| upward(file, text)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Files that say `word` although they are not `allowed` to.
fn says(files: &[(String, String)], word: &str, allowed: fn(&str) -> bool) -> Vec<String> {
    let wrong = files.iter().filter(|(file, text)| !allowed(file) && has_word(text, word));
    wrong.map(|(file, _)| format!("{file} says `{word}`")).collect()
}

fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !part(before) && !part(after)
    })
}

#[test]
fn only_the_python_folder_says_pyo3() {
    let mut wrong = says(&files(), "pyo3", |file| file.starts_with("python/"));
    wrong.extend(says(&files(), "pythonize", |file| file.starts_with("python/")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_clock_knows_time() {
    let files = files();
    for word in ["Instant::now", "SystemTime", "thread::sleep", "tokio::time"] {
        let wrong = says(&files, word, |file| file == "clock.rs");
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

#[test]
fn unsafe_has_one_home() {
    let wrong = says(&files(), "unsafe", |file| file.starts_with("python/bridge/ffi/"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What of `std::sync` has no thread wait for another, or is written before a second one comes.
const UNWATCHED: [&str; 3] = ["Arc", "Weak", "OnceLock"];

/// The locks and atomics that `text`, a file of the bus, has from elsewhere than `crate::sync`.
fn unseen(file: &str, text: &str) -> Vec<String> {
    let own = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut wrong: Vec<String> = named(own, "std::sync::")
        .into_iter()
        .filter(|name| !UNWATCHED.contains(&name.as_str()))
        .map(|name| format!("std::sync::{name}"))
        .collect();
    for whole in ["use std::sync;", "use std::{sync", "parking_lot"] {
        if own.contains(whole) {
            wrong.push(whole.to_owned());
        }
    }
    let told = |wrong| {
        format!(
            "{file} says `{wrong}`: tests of the bus that try orders of threads see only what \
             comes from `crate::sync`"
        )
    };
    wrong.into_iter().map(told).collect()
}

#[test]
fn the_bus_waits_where_its_tests_see_it() {
    let files = files();
    let bus = files
        .iter()
        .filter(|(file, _)| file.starts_with("bus/") && !file.starts_with("bus/tests/"));
    let wrong: Vec<String> = bus.flat_map(|(file, text)| unseen(file, text)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_rules_find_what_breaks_them() {
    let found = |file, text: &str| upward(file, &code(text)).len();
    assert_eq!(found("bus/guard.rs", "use crate::registry::Slot;"), 1);
    assert_eq!(found("bus/guard.rs", "use crate::{clock::Clock, registry};"), 1);
    assert_eq!(found("bus/guard.rs", "use super::super::framework::Framework;"), 1);
    assert_eq!(found("topic.rs", "mod tests { use super::super::bus::Bus; }"), 1);
    assert_eq!(found("topic.rs", "fn f() { crate::python::door(); }"), 1);
    assert_eq!(found("bus/guard.rs", "use crate::error::Error; // crate::registry::Slot"), 0);
    assert_eq!(found("recovery.rs", "use crate::registry::Registry;"), 0);
    assert_eq!(found("python/mod.rs", "use crate::framework::Framework;"), 0);
    assert_eq!(found("novelty.rs", ""), 1, "a new module needs a layer");
    let unseen = |text: &str| unseen("bus/core.rs", &code(text)).len();
    assert_eq!(unseen("use std::sync::{Arc, Mutex, atomic::AtomicU64};"), 2);
    assert_eq!(unseen("fn f() { std::sync::atomic::fence(Ordering::SeqCst); }"), 1);
    assert_eq!(unseen("use parking_lot::RwLock;"), 1);
    assert_eq!(unseen("use std::sync::{Arc, Weak};\nuse crate::sync::Mutex;"), 0);
    assert_eq!(unseen("#[cfg(test)]\nmod tests {\n    use parking_lot::Mutex;\n}"), 0);
    assert!(has_word("let x = unsafe { 1 };", "unsafe") && !has_word("unsafe_code", "unsafe"));
}
