//! Joining a group: the store, the arrival of all processes, and the groups of c10d.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs, UdpSocket};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tch::Cuda;

use super::c10d::{Group, Interface, Store, host_name};
use super::failure::{Failure, Member};
use super::pulse::beat_key;
use super::rendezvous::Rendezvous;
use super::watchdog::Watchdog;
use super::{Backend, C10dGroup, CURRENT, OnLost, Settings, reason};
use crate::device::load_cuda;
use crate::error::{Result, TorchError};

/// Time limit of an operation on bytes: one process may work for long while the others wait. Who is gone, the watchdog finds.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3600);
/// Time limit of an operation on tensors, c10d's default: processes take them in step.
const TENSOR_TIMEOUT: Duration = Duration::from_secs(30 * 60);
const POLL: Duration = Duration::from_millis(50);

/// Joins the group that meets at `place`, and makes it the group of this process ([`current`](super::current)).
///
/// Waits for all processes. `on_lost` is called once if one of them is gone, hangs or [fails](isr_api::ProcessGroup::fail)
/// before it [leaves](C10dGroup::leave).
///
/// # Errors
/// Processes that have not arrived within `settings.arrival`, by rank; a store that cannot be reached or served; processes
/// that do not fit together; NCCL that was asked for where it cannot be used.
pub fn join(place: Rendezvous, settings: Settings, on_lost: OnLost) -> Result<Arc<C10dGroup>, TorchError> {
    if CURRENT.get().is_some() {
        return refuse("this process has joined a group already".to_owned());
    }
    let [limit, arrival] = [settings.limit, settings.arrival].map(|time| time.max(Duration::from_secs(1)));
    let root = open(&place, arrival)?;
    let prefix = prefix(&place, &root)?;
    let store = root.within(&prefix)?;
    let arriving = Arriving { store, prefix, limit: arrival, backend: settings.backend, place };
    let members = arriving.arrive()?;
    let watched = arriving.own_connection("")?;
    let watchdog = Watchdog::start(watched, &arriving.place, members.clone(), limit, on_lost)?;
    let connected = arriving.connect(&members).inspect_err(|error| watchdog.fail(&reason(error)));
    let (control, tensors, nccl) = connected?;
    let Arriving { store, place, .. } = arriving;
    let group = Arc::new(C10dGroup::new(place, store, watchdog, control, tensors, nccl));
    if CURRENT.set(group.clone()).is_err() {
        return refuse("this process has joined a group meanwhile".to_owned());
    }
    tracing::info!(
        rank = group.place().rank,
        processes = members.len(),
        nccl = group.has_nccl(),
        "joined the group"
    );
    Ok(group)
}

/// Opens the store, or serves it.
fn open(place: &Rendezvous, limit: Duration) -> Result<Store> {
    let Rendezvous { rank, world_size, port, .. } = place;
    if !place.keeps_store() {
        return connection(place, limit);
    }
    let here = host_name();
    store_within(limit, place.clone(), true).map_err(|error| {
        TorchError::Group(format!(
            "rank {rank} of {world_size} keeps the group's store, but cannot serve it at {} ({error}); set MASTER_ADDR \
             to the name of its machine, `{here}`, and MASTER_PORT to a free port there instead of {port}",
            place.address()
        ))
    })
}

/// Opens a connection to the store.
fn connection(place: &Rendezvous, limit: Duration) -> Result<Store> {
    let Rendezvous { rank, world_size, .. } = place;
    store_within(limit, place.clone(), false).map_err(|error| {
        let keeper = if place.agent_store { "torchrun's agent" } else { "rank 0" };
        TorchError::Group(format!(
            "rank {rank} of {world_size} waited {} s for {keeper}, which keeps the group's store at {} ({error}); check \
             that it has been started, and that MASTER_ADDR and MASTER_PORT are where it is and are reachable from \
             `{}`",
            limit.as_secs_f64(),
            place.address(),
            host_name()
        ))
    })
}

/// Opens a store on a thread that is left alone where libtorch does not return in time.
fn store_within(limit: Duration, place: Rendezvous, serve: bool) -> Result<Store, String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(Store::open(&place.host, place.port, serve, limit)));
    match receiver.recv_timeout(limit + Duration::from_secs(1)) {
        Ok(opened) => opened.map_err(|error| reason(&error)),
        Err(_) => Err("nothing answers there".to_owned()),
    }
}

/// Returns what this group's keys begin with: the launcher's store outlives attempts, and processes that join twice.
fn prefix(place: &Rendezvous, root: &Store) -> Result<String> {
    let Rendezvous { rank, attempt, .. } = place;
    let joined = root.add(&format!("isr/{attempt}/joined/{rank}"), 1)?;
    if joined > 1 && !place.agent_store {
        return refuse(format!(
            "another process has joined the group at {} as rank {rank}: give each process a RANK of its own, and each \
             group a MASTER_PORT of its own",
            place.address()
        ));
    }
    Ok(format!("isr/{attempt}/{joined}"))
}

struct Arriving {
    store: Store,
    prefix: String,
    place: Rendezvous,
    limit: Duration,
    backend: Backend,
}

type Groups = (Group, Group, Option<Group>);

impl Arriving {
    /// Waits for all processes, and returns them by rank.
    fn arrive(&self) -> Result<Arc<[Member]>> {
        let Self { store, place, .. } = self;
        let keys: Vec<String> = (0..place.world_size).map(member_key).collect();
        store.set_first("world_size", &place.world_size.to_string())?;
        let agreed = store.get(&["world_size"])?.pop().unwrap_or_default();
        if agreed != place.world_size.to_string() {
            let cause = format!(
                "expects {} processes, others {agreed}: WORLD_SIZE must not differ",
                place.world_size
            );
            return self.fail(&cause, place.world_size - 1);
        }
        store.set(&beat_key(place.rank), "0")?;
        let member = serde_json::to_string(&self.member()?);
        store.set(&keys[place.rank], &member.map_err(|error| TorchError::Group(error.to_string()))?)?;
        let begin = Instant::now();
        while !store.has(&keys)? {
            if let Some(failure) = Failure::published(store)? {
                failure.spread(store, place.keeps_store(), place.world_size - 1)?;
                return refuse(failure.to_string());
            }
            if begin.elapsed() > self.limit {
                return self.report_absent(&keys);
            }
            thread::sleep(POLL);
        }
        let read = |text: &String| serde_json::from_str(text);
        let members: Result<Vec<Member>, _> = store.get(&keys)?.iter().map(read).collect();
        Ok(members
            .map_err(|error| TorchError::Group(format!("another process is not readable: {error}")))?
            .into())
    }

    fn member(&self) -> Result<Member> {
        let gpus = if self.backend == Backend::Gloo {
            None
        } else {
            load_cuda();
            let usable = Group::has_nccl() && Cuda::is_available();
            usable.then(|| Cuda::device_count().unsigned_abs() as usize)
        };
        let address = local_address(&self.place.host, self.place.port)
            .or_else(|| local_address(&host_name(), self.place.port))
            .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        Ok(Member { host: host_name(), process: std::process::id(), address: address.to_string(), gpus })
    }

    fn report_absent<T>(&self, keys: &[String]) -> Result<T> {
        let (mut absent, mut present) = (Vec::new(), Vec::new());
        for (rank, key) in keys.iter().enumerate() {
            if !self.store.has(&[key])? {
                absent.push(rank.to_string());
                continue;
            }
            let member = self.store.get(&[key])?.pop().unwrap_or_default();
            let host = serde_json::from_str::<Member>(&member).map(|it| it.host).unwrap_or_default();
            present.push(format!("{rank} (`{host}`)"));
        }
        let cause = format!(
            "waited {} s at {} for ranks {} of {}, which have not arrived; ranks {} have. Check that they have been \
             started, with the same MASTER_ADDR, MASTER_PORT and WORLD_SIZE",
            self.limit.as_secs_f64(),
            self.place.address(),
            absent.join(", "),
            keys.len(),
            present.join(", ")
        );
        self.fail(&cause, present.len().saturating_sub(1))
    }

    /// Tells the others why this process gives up, and returns that.
    fn fail<T>(&self, cause: &str, others: usize) -> Result<T> {
        let Self { store, place, .. } = self;
        let failure = Failure::of(place.rank, &self.member()?, cause, place.rank);
        let first = failure.publish(store)?;
        first.spread(store, place.keeps_store(), others)?;
        refuse(first.to_string())
    }

    /// Makes the groups: for bytes, for tensors of the CPU, and, where it can be used, for those of GPUs.
    fn connect(&self, members: &[Member]) -> Result<Groups> {
        let Self { store, place, limit, .. } = self;
        let ranks = [place.rank, place.world_size];
        let nccl = self.takes_nccl(members)?;
        // As in PyTorch.
        let named = std::env::var("GLOO_SOCKET_IFNAME").ok().filter(|name| !name.is_empty());
        let address = reached_address(&members[place.rank].address, members, place.port);
        let interface = match &named {
            Some(names) => Interface::Name(names.split(',').next().unwrap_or(names)),
            None => Interface::Address(&address),
        };
        let gloo = |name: &str, timeout| {
            let group = Group::gloo(&store.within(name)?, ranks, &interface, *limit, timeout);
            group.map_err(|error| {
                TorchError::Group(format!(
                    "could not connect to the other processes from `{}` ({}); its machine must be reachable from \
                     theirs: GLOO_SOCKET_IFNAME names the network interface to take",
                    named.as_ref().unwrap_or(&address),
                    reason(&error)
                ))
            })
        };
        let (control, tensors) = (gloo("control", CONTROL_TIMEOUT)?, gloo("tensors", TENSOR_TIMEOUT)?);
        let nccl = match nccl {
            // NCCL asks the store from threads of its own.
            true => Some(Group::nccl(&self.own_connection("/nccl")?, ranks, TENSOR_TIMEOUT)?),
            false => None,
        };
        Ok((control, tensors, nccl))
    }

    /// Opens a connection for threads that ask the store on their own.
    fn own_connection(&self, part: &str) -> Result<Store> {
        connection(&self.place, self.limit)?.within(&format!("{}{part}", self.prefix))
    }

    /// Decides the same in all processes.
    fn takes_nccl(&self, members: &[Member]) -> Result<bool> {
        let lacking = members.iter().enumerate().find_map(|(rank, member)| {
            let processes = members.iter().filter(|other| other.host == member.host).count();
            match member.gpus {
                None => Some(format!("rank {rank} on host `{}` has no CUDA device with NCCL", member.host)),
                Some(gpus) if gpus < processes => Some(format!(
                    "host `{}` has {gpus} GPUs for {processes} processes, and NCCL wants one each",
                    member.host
                )),
                Some(_) => None,
            }
        });
        match (self.backend, lacking) {
            (Backend::Gloo, _) | (Backend::Auto, Some(_)) => Ok(false),
            (Backend::Nccl, Some(lacking)) => refuse(format!(
                "cannot use the backend NCCL: {lacking}; choose the backend `auto` or `gloo`"
            )),
            (_, None) => Ok(true),
        }
    }
}

fn member_key(rank: usize) -> String {
    format!("member/{rank}")
}

/// Returns the address of this machine on the way to another one.
fn local_address(host: &str, port: u16) -> Option<IpAddr> {
    (host, port).to_socket_addrs().ok()?.find_map(|to| {
        let any =
            if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { IpAddr::from(Ipv6Addr::UNSPECIFIED) };
        // Sends nothing.
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip())
    })
}

/// Returns the address at which the other processes reach this one. That towards the store is the loopback's on the store's
/// own machine, where the store is named so.
fn reached_address(own: &str, members: &[Member], port: u16) -> String {
    let loops = |address: &str| address.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    let outside = members.iter().map(|member| &member.address).find(|address| !loops(address));
    match outside {
        Some(other) if loops(own) => {
            local_address(other, port).map_or_else(|| own.to_owned(), |address| address.to_string())
        }
        _ => own.to_owned(),
    }
}

fn refuse<T>(reason: String) -> Result<T> {
    Err(TorchError::Group(reason))
}
