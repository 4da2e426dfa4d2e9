//! Where the processes of a group meet, by the environment that a launcher gives them.

use std::env;
use std::fmt;
use std::str::FromStr;

use crate::error::{Result, TorchError};

/// Place of a process in its group, and where the group meets.
///
/// Read from torchrun's variables (`RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `MASTER_ADDR`, `MASTER_PORT`,
/// `TORCHELASTIC_USE_AGENT_STORE`), or else from those of a Slurm step (`SLURM_PROCID`, `SLURM_STEP_NUM_TASKS` or
/// `SLURM_NTASKS`, `SLURM_LOCALID`), for which `MASTER_ADDR` defaults to the step's first node and `MASTER_PORT` to
/// one of the job's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rendezvous {
    /// Index of this process, from 0.
    pub rank: usize,
    /// Number of processes.
    pub world_size: usize,
    /// Index of this process among those of its machine, by which it takes its device.
    pub local_rank: usize,
    /// Name or address of the machine with the store.
    pub host: String,
    /// Port of the store.
    pub port: u16,
    /// Whether the launcher keeps the store, as torchrun's agent does; else rank 0 does.
    pub agent_store: bool,
    /// Number of the launcher's restarts: processes of different attempts do not meet.
    pub attempt: u64,
}

impl Rendezvous {
    /// Reads the environment. Returns none outside of any group: without `WORLD_SIZE` or a Slurm step, and where these
    /// have one process, but for one that torchrun has started.
    ///
    /// # Errors
    /// Variables that are absent or invalid, by name, with the remedy.
    pub fn from_env() -> Result<Option<Self>, TorchError> {
        Self::read(|name| env::var(name).ok())
    }

    /// As [`from_env`](Self::from_env), of variables that `get` returns.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, TorchError> {
        let variables = Variables(&|name| get(name).filter(|value| !value.is_empty()));
        let found = if variables.has("WORLD_SIZE") {
            Self::of_torchrun(&variables)?
        } else if variables.has("SLURM_STEP_ID") {
            Self::of_slurm(&variables)?
        } else {
            None
        };
        match found {
            Some(it) if it.rank >= it.world_size => refuse(format!(
                "rank {} is not below the number of processes, {}: {RANKS}",
                it.rank, it.world_size
            )),
            found => Ok(found),
        }
    }

    fn of_torchrun(variables: &Variables<'_>) -> Result<Option<Self>> {
        let world_size = variables.number("WORLD_SIZE", RANKS)?;
        if world_size == 1 && !variables.has("TORCHELASTIC_RUN_ID") {
            return Ok(None);
        }
        Ok(Some(Self {
            rank: variables.number("RANK", RANKS)?,
            world_size,
            local_rank: variables.number(
                "LOCAL_RANK",
                "it is the index of a process among those of its machine, by which it takes its device",
            )?,
            host: variables.required("MASTER_ADDR", STORE)?,
            port: variables.number("MASTER_PORT", STORE)?,
            agent_store: variables
                .get("TORCHELASTIC_USE_AGENT_STORE")
                .is_some_and(|value| value.eq_ignore_ascii_case("true") || value == "1"),
            attempt: variables.optional("TORCHELASTIC_RESTART_COUNT")?.unwrap_or(0),
        }))
    }

    fn of_slurm(variables: &Variables<'_>) -> Result<Option<Self>> {
        // The size of the job is not that of a step: a shell within an allocation is a step of one process.
        let world_size = match variables.optional("SLURM_STEP_NUM_TASKS")? {
            Some(size) => size,
            None => variables.number("SLURM_NTASKS", RANKS)?,
        };
        if world_size == 1 {
            return Ok(None);
        }
        let host = match variables.get("MASTER_ADDR") {
            Some(host) => host,
            None => variables
                .get("SLURM_STEP_NODELIST")
                .map(|list| first_node(&list))
                .or_else(|| variables.get("SLURM_LAUNCH_NODE_IPADDR"))
                .map_or_else(|| variables.required("MASTER_ADDR", STORE), Ok)?,
        };
        let port = match variables.optional("MASTER_PORT")? {
            Some(port) => port,
            None => {
                let job: u64 = variables.number("SLURM_JOB_ID", STORE)?;
                let step: u64 = variables.number("SLURM_STEP_ID", STORE)?;
                // Below the ports that systems give to clients; steps of one job, and jobs one after the other, differ.
                10_000 + (job.wrapping_mul(8).wrapping_add(step) % 20_000) as u16
            }
        };
        Ok(Some(Self {
            rank: variables.number("SLURM_PROCID", RANKS)?,
            world_size,
            local_rank: variables.number("SLURM_LOCALID", RANKS)?,
            host,
            port,
            agent_store: false,
            attempt: variables.optional("SLURM_RESTART_COUNT")?.unwrap_or(0),
        }))
    }

    /// Whether this process keeps the store.
    pub(super) fn keeps_store(&self) -> bool {
        self.rank == 0 && !self.agent_store
    }

    /// Returns `HOST:PORT` of the store.
    pub(super) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

const RANKS: &str = "launchers (torchrun, srun) number their processes from 0 to WORLD_SIZE - 1";
const STORE: &str =
    "it says where rank 0 is found: MASTER_ADDR, its machine, and MASTER_PORT, a free port there";

struct Variables<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Variables<'_> {
    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name)
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn required(&self, name: &str, purpose: &str) -> Result<String> {
        let Some(value) = self.get(name) else {
            return refuse(format!(
                "the environment says that this is one process of several, but {name} is not set: {purpose}; start \
                 with torchrun or srun, set {name}, or unset WORLD_SIZE to run one process"
            ));
        };
        Ok(value)
    }

    fn optional<T: FromStr<Err: fmt::Display>>(&self, name: &str) -> Result<Option<T>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.trim().parse() {
            Ok(number) => Ok(Some(number)),
            Err(error) => {
                refuse(format!("the environment variable {name} is {value:?}: {error}; set it to a number"))
            }
        }
    }

    fn number<T: FromStr<Err: fmt::Display>>(&self, name: &str, purpose: &str) -> Result<T> {
        self.required(name, purpose)?;
        self.optional(name)?.map_or_else(|| refuse(format!("{name} is not set")), Ok)
    }
}

/// Returns the first name of a list as Slurm writes it: `node[003-007,12],other`.
fn first_node(list: &str) -> String {
    let Some((prefix, rest)) = list.split_once('[').filter(|(prefix, _)| !prefix.contains(',')) else {
        return list.split(',').next().unwrap_or(list).to_owned();
    };
    let (numbers, after) = rest.split_once(']').unwrap_or((rest, ""));
    let number = numbers.split([',', '-']).next().unwrap_or_default();
    let suffix = after.split(',').next().unwrap_or_default();
    format!("{prefix}{number}{suffix}")
}

fn refuse<T>(reason: String) -> Result<T> {
    Err(TorchError::Group(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Rendezvous>> {
        Rendezvous::read(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    const TORCHRUN: [(&str, &str); 6] = [
        ("RANK", "3"),
        ("WORLD_SIZE", "4"),
        ("LOCAL_RANK", "1"),
        ("MASTER_ADDR", "node1"),
        ("MASTER_PORT", "29500"),
        ("SLURM_STEP_ID", "0"),
    ];

    #[test]
    fn torchruns_variables_say_who_keeps_the_store_and_which_attempt_it_is() {
        let plain = read(&TORCHRUN).unwrap().unwrap();
        let expected = Rendezvous {
            rank: 3,
            world_size: 4,
            local_rank: 1,
            host: "node1".into(),
            port: 29500,
            agent_store: false,
            attempt: 0,
        };
        assert_eq!(plain, expected);
        let mut variables = TORCHRUN.to_vec();
        variables.extend([("TORCHELASTIC_USE_AGENT_STORE", "True"), ("TORCHELASTIC_RESTART_COUNT", "2")]);
        let elastic = read(&variables).unwrap().unwrap();
        assert_eq!(elastic, Rendezvous { agent_store: true, attempt: 2, ..expected });
    }

    #[test]
    fn one_process_is_a_group_only_under_torchrun() {
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(read(&[("WORLD_SIZE", "1")]).unwrap(), None);
        assert_eq!(read(&[("SLURM_NTASKS", "4"), ("SLURM_PROCID", "0")]).unwrap(), None, "a batch script");
        let shell = [("SLURM_STEP_ID", "4294967290"), ("SLURM_STEP_NUM_TASKS", "1"), ("SLURM_NTASKS", "4")];
        assert_eq!(read(&shell).unwrap(), None, "a shell in an allocation");
        let mut torchrun = TORCHRUN.to_vec();
        torchrun[0].1 = "0";
        torchrun[1].1 = "1";
        torchrun.push(("TORCHELASTIC_RUN_ID", "none"));
        assert_eq!(read(&torchrun).unwrap().map(|it| it.world_size), Some(1));
    }

    #[test]
    fn a_slurm_step_meets_on_its_first_node_unless_told_where() {
        let mut step = vec![
            ("SLURM_STEP_ID", "1"),
            ("SLURM_JOB_ID", "123456"),
            ("SLURM_STEP_NUM_TASKS", "8"),
            ("SLURM_NTASKS", "16"),
            ("SLURM_PROCID", "5"),
            ("SLURM_LOCALID", "1"),
            ("SLURM_STEP_NODELIST", "gpu[003-004,9]"),
            ("SLURM_LAUNCH_NODE_IPADDR", "10.0.0.1"),
        ];
        let found = read(&step).unwrap().unwrap();
        assert_eq!((found.rank, found.world_size, found.local_rank), (5, 8, 1));
        assert_eq!(found.host, "gpu003");
        assert_eq!(found.port, 10_000 + ((123_456 * 8 + 1) % 20_000) as u16);
        step.extend([("MASTER_ADDR", "10.1.1.1"), ("MASTER_PORT", "12345")]);
        assert_eq!(read(&step).unwrap().unwrap().address(), "10.1.1.1:12345");
        assert_eq!(first_node("a,b[1-2]"), "a");
        assert_eq!(first_node("rack1-n[07,09]-ib,x"), "rack1-n07-ib");
        assert_eq!(first_node("single"), "single");
    }

    #[test]
    fn what_is_absent_or_invalid_is_named_with_the_remedy() {
        for (index, (name, _)) in
            TORCHRUN.iter().enumerate().take(5).filter(|(_, (name, _))| *name != "WORLD_SIZE")
        {
            let mut variables = TORCHRUN.to_vec();
            variables.remove(index);
            let error = read(&variables).unwrap_err().to_string();
            assert!(error.contains(&format!("{name} is not set")) && error.contains("torchrun"), "{error}");
        }
        let mut variables = TORCHRUN.to_vec();
        variables[4].1 = "port";
        let error = read(&variables).unwrap_err().to_string();
        assert!(error.contains("MASTER_PORT is \"port\""), "{error}");
        variables = TORCHRUN.to_vec();
        variables[0].1 = "4";
        assert!(read(&variables).unwrap_err().to_string().contains("rank 4 is not below"), "");
    }
}
