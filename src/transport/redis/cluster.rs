//! A cluster: which of its nodes has what, and one connection to each for all who can share it.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ::redis::{RedisError, RedisResult, cmd};
use parking_lot::Mutex;

use super::address::Seat;
use super::atlas::{self, Atlas};
use super::fault::{self, Fault};
use super::site::{Site, Wire};
use crate::clock::Instant;

/// How long one node may take to say who has what: there are others.
const PATIENCE: Duration = Duration::from_secs(1);

/// Nobody asks again so soon.
const FRESH: Duration = Duration::from_millis(100);

/// What is known of a cluster.
pub(super) struct Cluster {
    seeds: Vec<Seat>,
    known: Mutex<Known>,
    /// One at a time looks who has what.
    looking: tokio::sync::Mutex<()>,
    roads: Mutex<HashMap<Seat, Arc<Road>>>,
}

#[derive(Default)]
struct Known {
    atlas: Atlas,
    /// When somebody looked last.
    looked: Option<Instant>,
    /// Whether something was other than that says.
    doubted: bool,
}

/// The connection to one node that all share, which one of them makes.
type Road = tokio::sync::Mutex<Option<Wire>>;

impl Cluster {
    pub fn new(seeds: Vec<Seat>) -> Cluster {
        Cluster {
            seeds,
            known: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
            roads: Mutex::default(),
        }
    }

    /// A connection of one's own to the master of `slot`.
    ///
    /// # Errors
    /// What is in the way; the next call looks again who that is.
    pub async fn connect(
        &self,
        site: &Site,
        slot: u16,
        response_timeout: Duration,
    ) -> RedisResult<Wire> {
        let seat = self.master(site, slot).await?;
        let connected = site.reach_server(&seat, response_timeout).await;
        connected.inspect_err(|_| self.doubt())
    }

    /// The connection to the master of `slot` that all share.
    ///
    /// # Errors
    /// As of [`Cluster::connect`].
    pub async fn share(&self, site: &Site, slot: u16) -> RedisResult<Wire> {
        let seat = self.master(site, slot).await?;
        self.road(site, &seat).await.inspect_err(|_| self.doubt())
    }

    /// A connection to each master.
    ///
    /// # Errors
    /// As of [`Cluster::connect`].
    pub async fn all(&self, site: &Site) -> RedisResult<Vec<Wire>> {
        self.look(site).await?;
        let masters = self.known.lock().atlas.masters();
        let mut all = Vec::with_capacity(masters.len());
        for seat in masters {
            all.push(self.road(site, &seat).await.inspect_err(|_| self.doubt())?);
        }
        Ok(all)
    }

    /// What was asked for over `wire` failed like this.
    pub fn failed(&self, wire: &Wire, cause: &RedisError) {
        match Fault::of(cause) {
            Fault::Lost => {
                self.close(wire);
                self.doubt();
            }
            Fault::Demoted => self.doubt(),
            Fault::Moved => match (cause.code(), cause.redirect_node()) {
                (Some("MOVED"), Some((to, slot))) => match atlas::redirected(to, &wire.seat) {
                    Some(seat) => self.known.lock().atlas.moved(slot, seat),
                    None => self.doubt(),
                },
                // The slot is on its way, and nobody has all of it: it stays where it is, for now.
                (Some("ASK" | "TRYAGAIN"), _) => {}
                _ => self.doubt(),
            },
            _ => {}
        }
    }

    fn doubt(&self) {
        self.known.lock().doubted = true;
    }

    /// Who has `slot`; looks, where that is not known.
    async fn master(&self, site: &Site, slot: u16) -> RedisResult<Seat> {
        let known = |site: &Site| {
            let known = self.known.lock();
            let now = site.clock.now();
            let fresh = known.looked.is_some_and(|at| now.saturating_since(at) < FRESH);
            (!known.doubted || fresh).then(|| known.atlas.master(slot).cloned()).flatten()
        };
        if let Some(seat) = known(site) {
            return Ok(seat);
        }
        let looking = self.looking.lock().await;
        if let Some(seat) = known(site) {
            return Ok(seat); // somebody else has looked meanwhile
        }
        self.look(site).await?;
        drop(looking);
        self.known.lock().atlas.master(slot).cloned().ok_or_else(|| {
            let said = format!("no node of the cluster has the slot {slot}");
            io::Error::new(io::ErrorKind::NotConnected, said).into()
        })
    }

    /// Asks one node after the other who has what, until one answers.
    async fn look(&self, site: &Site) -> RedisResult<()> {
        let mut seats = self.known.lock().atlas.nodes().to_vec();
        // Not everybody asks the same one first.
        fastrand::shuffle(&mut seats);
        let unknown: Vec<_> =
            self.seeds.iter().filter(|seed| !seats.contains(seed)).cloned().collect();
        seats.extend(unknown);
        let mut worst: Option<RedisError> = None;
        for seat in seats {
            match self.ask(site, &seat).await {
                Ok(atlas) => {
                    let mut known = self.known.lock();
                    known.atlas = atlas;
                    (known.looked, known.doubted) = (Some(site.clock.now()), false);
                    return Ok(());
                }
                // That we may not says more than that one is not there.
                Err(cause) if worst.as_ref().is_none_or(|worst| Fault::of(worst).passes()) => {
                    worst = Some(cause);
                }
                Err(_) => {}
            }
        }
        Err(worst.unwrap_or_else(|| fault::misconfigured("the URL names no node of a cluster")))
    }

    async fn ask(&self, site: &Site, seat: &Seat) -> RedisResult<Atlas> {
        let limit = site.limit.min(PATIENCE);
        let asked = async {
            let mut wire = self.road(site, seat).await?;
            let answer = wire.send_packed_command(cmd("CLUSTER").arg("SLOTS")).await;
            let answer = answer.inspect_err(|_| self.close(&wire))?;
            Atlas::of(answer, seat).map_err(|cause| no_cluster(cause, seat))
        };
        match site.clock.timeout(limit, asked).await {
            Ok(answered) => answered,
            Err(elapsed) => {
                let said = format!("{seat} did not answer within {:?}", elapsed.limit);
                Err(io::Error::new(io::ErrorKind::TimedOut, said).into())
            }
        }
    }

    async fn road(&self, site: &Site, seat: &Seat) -> RedisResult<Wire> {
        let road = self.roads.lock().entry(seat.clone()).or_default().clone();
        let mut road = road.lock().await;
        if let Some(wire) = &*road {
            return Ok(wire.clone());
        }
        let wire = site.reach_server(seat, site.response_timeout).await?;
        *road = Some(wire.clone());
        Ok(wire)
    }

    /// Nobody is given this connection any more.
    fn close(&self, wire: &Wire) {
        let mut roads = self.roads.lock();
        let shared = |road: &Arc<Road>| {
            road.try_lock().is_ok_and(|road| road.as_ref().is_some_and(|own| own.is(wire)))
        };
        if roads.get(&*wire.seat).is_some_and(shared) {
            roads.remove(&*wire.seat);
        }
    }
}

/// What a server says that is none of a cluster.
fn no_cluster(cause: RedisError, seat: &Seat) -> RedisError {
    if cause.to_string().contains("cluster support disabled") {
        return fault::misconfigured(format!(
            "{seat} is none of a cluster: its URL begins with `redis://`, or with TLS `rediss://`"
        ));
    }
    cause
}
