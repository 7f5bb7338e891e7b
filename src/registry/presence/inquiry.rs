//! Asking one process about one of its components: ping, info, stats.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::messenger::Presence;
use crate::bus::Failure;
use crate::error::{Category, Error, Kind, Result};
use crate::event::{Event, Payload};

/// What is asked of a process.
pub(super) const QUESTION: &str = "system.presence.question";

/// What one may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Question {
    /// Are you there?
    Ping,
    /// Who are you?
    Info,
    /// What have you done?
    Stats,
}

#[derive(Debug, Serialize, Deserialize)]
struct Asked {
    instance: String,
    component: String,
    what: Question,
}

impl Presence {
    /// Asks the process `instance` about its component.
    ///
    /// # Errors
    /// [`Kind::NoResponder`] at once where that is not known to be there;
    /// [`Kind::RequestTimeout`] where it does not answer; [`Kind::RequestFault`] where it has no
    /// such component.
    pub async fn ask(
        &self,
        instance: &str,
        component: &str,
        what: Question,
        timeout: Duration,
    ) -> Result<Value> {
        if *instance == **self.instance() {
            return self.say(component, what).map_err(|why| nobody(component, &why));
        }
        let services = self.0.others.named(component);
        if !services.iter().any(|service| *service.instance == *instance) {
            let why = format!("it is not there any more: {}", self.0.others.why_not(component));
            return Err(nobody(component, &why));
        }
        let asked = Asked { instance: instance.into(), component: component.into(), what };
        let reply = self.0.registry.bus().ask_around(QUESTION, &asked, timeout)?;
        Ok(reply.await?.to_json_value())
    }

    /// Answers a question that is for us.
    pub(super) fn answer(&self, event: &Event) {
        let Ok(asked) = serde_json::from_value::<Asked>(event.payload.to_json_value()) else {
            return;
        };
        if *asked.instance != **self.instance() {
            return;
        }
        let answer = match self.say(&asked.component, asked.what) {
            Ok(said) => Payload::from_json_value(&said).map_err(|error| error.to_string()),
            Err(why) => Err(why),
        };
        self.0.registry.bus().answer(
            event,
            answer.map_err(|message| Failure::new(Category::Permanent, "NoResponder", message)),
        );
    }

    fn say(&self, component: &str, what: Question) -> Result<Value, String> {
        let slot = self.0.registry.get(component).map_err(|error| error.message().to_owned())?;
        let known = self.services(false).into_iter().find(|s| s.told.name == component);
        let service = json!(known);
        let bus = self.0.registry.bus();
        Ok(match what {
            Question::Ping => json!({"state": slot.state(), "ready": service["ready"]}),
            Question::Info => {
                let descriptor = slot.descriptor();
                let mut info = service;
                info["depends_on"] = json!(descriptor.depends_on);
                info["wants"] = json!(descriptor.wants);
                info["tiebeam"] = json!(env!("CARGO_PKG_VERSION"));
                info["handles"] = self.handlers(component, |s| json!(s.pattern().as_str()));
                info
            }
            Question::Stats => {
                let report = self.0.monitor.report(component);
                let report = report.map_err(|error| error.message().to_owned())?;
                let mut stats = json!(report.metrics);
                stats["uptime"] = json!(report.uptime);
                stats["last_error"] = json!(slot.meters().last_error());
                stats["restarts"] = json!(slot.status().restarts);
                for key in ["memory_usage", "event_processing_delay"] {
                    stats[key] = report.details.get(key).cloned().unwrap_or_default();
                }
                stats["at"] = json!(bus.clock().unix_ms());
                stats["handlers"] = self.handlers(component, |s| {
                    let tally = s.tally();
                    json!({
                        "name": s.name(),
                        "topic": s.pattern().as_str(),
                        "delivered": tally.delivered,
                        "dead_lettered": tally.dead_lettered,
                        "in_flight": tally.in_flight,
                    })
                });
                stats
            }
        })
    }

    fn handlers(&self, component: &str, say: impl Fn(&crate::bus::Subscription) -> Value) -> Value {
        let own = self.0.registry.bus().subscriptions_of(component);
        Value::Array(own.iter().map(|s| say(s)).collect())
    }
}

fn nobody(component: &str, why: &str) -> Error {
    let said = format!("`{component}` cannot be asked: {why}");
    Error::new(Kind::NoResponder, "request", said).with("component", component)
}
