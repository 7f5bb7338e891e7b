//! What a process says of itself to others, and what is refused of that.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::lifecycle::State;

/// The type of what a process says of itself.
pub(super) const ANNOUNCEMENT: &str = "system.presence.announcement";

/// The most that is read of one announcement, in bytes.
pub(super) const MAX_SIZE: usize = 64 * 1024;

/// The most components of one process, and entries of one list of a component.
const MAX_COMPONENTS: usize = 512;
const MAX_LIST: usize = 128;

/// The longest name or topic, and the longest cause, in bytes.
const MAX_NAME: usize = 256;
pub(super) const MAX_CAUSE: usize = 1_024;

/// Shorter and longer leases than these are taken for these.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(3_600);

/// One component, as its process tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Its name.
    pub name: String,
    /// Its version.
    #[serde(default)]
    pub version: String,
    /// Its state.
    pub state: State,
    /// The verdict over it, as a word.
    #[serde(default)]
    pub health: String,
    /// Whether it can take work.
    #[serde(default)]
    pub ready: bool,
    /// Why it is not simply well; empty where it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cause: String,
    /// What others may look it up by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// Its class and the classes that it is one of, as `module:Class`; only ever compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    /// The types of the requests that it answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub responds: Vec<String>,
}

/// What a process says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Announcement {
    /// What names the process; one that starts anew may have it again.
    pub instance: Arc<str>,
    /// Greater with each start under the same name.
    pub incarnation: u64,
    /// Greater with each announcement of one incarnation.
    pub number: u64,
    /// The name of the system that it is a part of.
    pub system: String,
    /// The version of that.
    #[serde(default)]
    pub version: String,
    /// The machine.
    #[serde(default)]
    pub host: String,
    /// The process there.
    #[serde(default)]
    pub pid: u32,
    /// How long this holds, in seconds from when it is heard.
    pub lease: f64,
    /// Whether everybody is asked to announce themselves: whoever asks is new here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asks: bool,
    /// Whether this is its last word.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaves: bool,
    /// What runs in it.
    #[serde(default)]
    pub components: Vec<Told>,
}

impl Announcement {
    /// Reads what somebody sent as an announcement of `size` bytes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(payload: Value, size: usize) -> Result<Announcement, String> {
        if size > MAX_SIZE {
            return Err(format!("{size} bytes are more than {MAX_SIZE}"));
        }
        let read: Announcement = serde_json::from_value(payload).map_err(|e| e.to_string())?;
        read.check()?;
        Ok(read)
    }

    fn check(&self) -> Result<(), String> {
        if self.instance.is_empty() {
            return Err("an empty `instance`".into());
        }
        if !self.lease.is_finite() || self.lease <= 0.0 {
            return Err(format!("a `lease` of {}", self.lease));
        }
        if self.components.len() > MAX_COMPONENTS {
            return Err(format!("{} components", self.components.len()));
        }
        let names = [&*self.instance, &self.system, &self.version, &self.host].into_iter();
        let of_components = self.components.iter().flat_map(|told| {
            let lists = [&told.capabilities, &told.types, &told.responds];
            let listed = lists.into_iter().flatten().map(String::as_str);
            [told.name.as_str(), &told.version, &told.health].into_iter().chain(listed)
        });
        if let Some(long) = names.chain(of_components).find(|name| name.len() > MAX_NAME) {
            return Err(format!("a name of {} bytes", long.len()));
        }
        for told in &self.components {
            let longest = [&told.capabilities, &told.types, &told.responds].map(Vec::len);
            if told.name.is_empty()
                || told.cause.len() > MAX_CAUSE
                || longest.into_iter().any(|length| length > MAX_LIST)
            {
                return Err(format!("a component without a name, or too much of `{}`", told.name));
            }
        }
        Ok(())
    }

    /// How long it holds.
    pub fn lease(&self) -> Duration {
        Duration::try_from_secs_f64(self.lease).unwrap_or(LONGEST).clamp(SHORTEST, LONGEST)
    }

    /// Cuts it down to what others read; false where something had to go.
    pub(super) fn fit(&mut self) -> bool {
        let before = self.components.len();
        self.components.retain(|told| !told.name.is_empty() && told.name.len() <= MAX_NAME);
        self.components.truncate(MAX_COMPONENTS);
        let mut whole = self.components.len() == before;
        for text in [&mut self.system, &mut self.version, &mut self.host] {
            cut(text, MAX_NAME);
        }
        for told in &mut self.components {
            cut(&mut told.cause, MAX_CAUSE);
            cut(&mut told.version, MAX_NAME);
            for list in [&mut told.capabilities, &mut told.types, &mut told.responds] {
                let before = list.len();
                list.retain(|name| name.len() <= MAX_NAME);
                list.truncate(MAX_LIST);
                whole &= list.len() == before;
            }
        }
        // What is said of each component goes first, then components: never the whole.
        while serde_json::to_string(self).map_or(0, |text| text.len()) > MAX_SIZE {
            whole = false;
            let wordy = |told: &Told| !(told.responds.is_empty() && told.types.is_empty());
            if self.components.iter().any(wordy) {
                for told in &mut self.components {
                    (told.responds, told.types) = (Vec::new(), Vec::new());
                    told.cause.clear();
                }
            } else {
                let half = self.components.len() / 2;
                self.components.truncate(half);
            }
        }
        whole
    }
}

/// Cuts `text` to at most `most` bytes.
pub(super) fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn plain() -> Value {
        json!({
            "instance": "a", "incarnation": 1, "number": 1, "system": "s", "lease": 15.0,
            "components": [{"name": "feed", "state": "running"}],
        })
    }

    #[test]
    fn what_is_no_announcement_is_refused_with_a_reason() {
        assert_eq!(Announcement::read(plain(), 100).unwrap().components[0].state, State::Running);
        let mut wrong = Vec::new();
        for (key, value) in [
            ("instance", json!("")),
            ("instance", json!(7)),
            ("instance", json!("x".repeat(300))),
            ("incarnation", json!(-1)),
            ("lease", json!(0)),
            ("lease", json!("soon")),
            ("components", json!([{"name": "feed", "state": "dancing"}])),
            ("components", json!([{"name": "", "state": "running"}])),
            ("components", json!(vec![json!({"name": "a", "state": "running"}); 513])),
        ] {
            let mut payload = plain();
            payload[key] = value;
            wrong.push(Announcement::read(payload, 100).expect_err(key));
        }
        wrong.push(Announcement::read(json!("hello"), 7).unwrap_err());
        wrong.push(Announcement::read(plain(), MAX_SIZE + 1).unwrap_err());
        assert!(wrong.iter().all(|reason| !reason.is_empty()));
    }

    #[test]
    fn what_is_not_known_yet_is_no_fault_and_leases_have_bounds() {
        let mut payload = plain();
        payload["of_a_later_version"] = json!({"a": 1});
        payload["lease"] = json!(1e300);
        assert_eq!(Announcement::read(payload, 100).unwrap().lease(), LONGEST);
        let mut payload = plain();
        payload["lease"] = json!(1e-9);
        assert_eq!(Announcement::read(payload, 100).unwrap().lease(), SHORTEST);
    }

    proptest! {
        #[test]
        fn what_was_made_to_fit_is_read(
            many in 0_usize..700, long in 0_usize..400, listed in 0_usize..200,
            name in 0_usize..300, cause in ".{0,600}"
        ) {
            let mut said = Announcement::read(plain(), 100).unwrap();
            let told = Told {
                name: "f".repeat(name),
                version: "1".repeat(name),
                cause,
                responds: vec!["x".repeat(long); listed],
                ..said.components[0].clone()
            };
            said.host = "h".repeat(long);
            said.components = vec![told; many];
            said.fit();
            let text = serde_json::to_string(&said).unwrap();
            let read = Announcement::read(serde_json::from_str(&text).unwrap(), text.len());
            prop_assert_eq!(read.unwrap(), said);
        }
    }
}
