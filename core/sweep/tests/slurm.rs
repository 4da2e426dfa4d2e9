//! Jobs on a Slurm of this machine: one node, started for the test. Needs Debian's `slurm-wlm`, and root.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use isr_sweep::scheduler::{SchedulerConfig, Slurm};
use support::daemons::{Daemon, ports, program};
use support::{scenarios, wait_for};
use tempfile::TempDir;

/// The daemons stop in this order: fields are dropped as they stand.
struct Cluster {
    _slurmd: Daemon,
    _slurmctld: Daemon,
    _munged: Daemon,
    folder: TempDir,
}

impl Cluster {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        for name in ["state", "spool", "munge"] {
            fs::create_dir(at(name)).unwrap();
        }
        // Long and random is the key of a cluster; this one lives for a minute on loopback.
        fs::write(at("key"), format!("{:0>64}", std::process::id())).unwrap();
        Command::new("chmod").args(["400", &at("key")]).status().unwrap();
        let munged = Daemon::start(
            Path::new(&at("munged.log")),
            Command::new("munged").args(["--foreground", "--force"]).args([
                format!("--key-file={}", at("key")),
                format!("--socket={}", at("munge/socket")),
                format!("--pid-file={}", at("munge/pid")),
                format!("--seed-file={}", at("munge/seed")),
                format!("--log-file={}", at("munge/log")),
            ]),
        );
        let [controller, node] = ports();
        let host = Command::new("hostname").arg("-s").output().unwrap().stdout;
        let host = String::from_utf8(host).unwrap();
        fs::write(at("slurm.conf"), conf(folder.path(), host.trim(), controller, node)).unwrap();
        for name in ["sbatch", "squeue", "scancel", "sacct"] {
            let conf = at("slurm.conf");
            program(
                Path::new(&at(&format!("bin/{name}"))),
                &format!("SLURM_CONF={conf} exec {name} \"$@\""),
            );
        }
        wait_for(|| Path::new(&at("munge/socket")).exists()).await;
        let start = |name: &str| {
            let mut command = Command::new(name);
            command.args(["-D", "-f", &at("slurm.conf")]).env("SLURM_CONF", at("slurm.conf"));
            Daemon::start(Path::new(&at(&format!("{name}.log"))), &mut command)
        };
        let (slurmctld, slurmd) = (start("slurmctld"), start("slurmd"));
        let conf = at("slurm.conf");
        let idle = || {
            let states = Command::new("sinfo").args(["-h", "-o", "%t"]).env("SLURM_CONF", &conf).output();
            states.is_ok_and(|it| it.stdout == b"idle\n")
        };
        wait_for(idle).await;
        Self { _slurmd: slurmd, _slurmctld: slurmctld, _munged: munged, folder }
    }

    fn settings(&self) -> Slurm {
        let bin = Some(self.folder.path().join("bin"));
        Slurm { bin, poll: 0.5, settle: 5.0, options: vec!["--time=5".into()], ..Slurm::default() }
    }
}

fn conf(folder: &Path, host: &str, controller: u16, node: u16) -> String {
    let folder = folder.display();
    format!(
        "ClusterName=loopback\nSlurmctldHost={host}(127.0.0.1)\nSlurmctldPort={controller}\nSlurmdPort={node}\n\
         SlurmUser=root\nSlurmdUser=root\nAuthType=auth/munge\nAuthInfo=socket={folder}/munge/socket\n\
         CredType=cred/munge\nStateSaveLocation={folder}/state\nSlurmdSpoolDir={folder}/spool\n\
         SlurmctldPidFile={folder}/slurmctld.pid\nSlurmdPidFile={folder}/slurmd.pid\n\
         ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nMpiDefault=none\n\
         SelectType=select/cons_tres\nSelectTypeParameters=CR_Core\nReturnToService=2\n\
         SchedulerParameters=batch_sched_delay=0,sched_min_interval=0\n\
         NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN\n\
         PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n"
    )
}

#[tokio::test]
#[ignore = "needs a Slurm that can be started here: `cargo xtask test --clusters`"]
async fn slurm_runs_jobs_remembers_them_and_cancels_them() {
    let cluster = Cluster::start().await;
    let settings = SchedulerConfig::Slurm(cluster.settings());
    scenarios::runs_jobs(&settings).await;
    scenarios::survives_a_cut(&settings, |_| {}).await;
    // Cut after `sbatch`, before its answer was written.
    let without_id = |state: &Path| {
        let array = fs::read_dir(state).unwrap().next().unwrap().unwrap().path();
        fs::remove_file(array.join("id")).unwrap();
    };
    scenarios::survives_a_cut(&settings, without_id).await;
    scenarios::cancels(&SchedulerConfig::Slurm(Slurm { jobs: Some(1), ..cluster.settings() })).await;
    let left = Command::new(cluster.folder.path().join("bin/squeue")).arg("--noheader").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
}

/// `srun` is all that a run in several processes takes: each task finds its place in Slurm's variables.
#[tokio::test]
#[ignore = "needs a Slurm and the program: `cargo xtask test --clusters`"]
async fn tasks_of_srun_are_the_processes_of_one_run() {
    let program =
        std::env::var("ISR_PROGRAM").expect("`cargo xtask test --clusters` says where the program is");
    let cluster = Cluster::start().await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = tempfile::tempdir().unwrap();
    let data = format!("data.dir={}", folder.path().join("data").display());
    let run = |mut command: Command, out: &str| {
        command.args([
            &program,
            "-q",
            "run",
            "configs/quickstart.toml",
            "-s",
            &data,
            "-s",
            "loop.iterations=1",
        ]);
        command.args(["-s", "data.training_clips=24", "-s", "data.evaluation_clips=8", "-o"]);
        let ended = command.arg(folder.path().join(out)).current_dir(&root).output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    };
    run(Command::new("env"), "one");
    let mut srun = Command::new("srun");
    srun.env("SLURM_CONF", cluster.folder.path().join("slurm.conf")).args(["--ntasks=2", "--time=5"]);
    run(srun, "two");
    let read = |out: &str, name: &str| fs::read(folder.path().join(out).join(name)).unwrap();
    for name in ["responses", "contexts", "verdicts", "pairs"].map(|it| format!("iteration-01/{it}.jsonl"))
    {
        assert_eq!(read("one", &name), read("two", &name), "{name}");
    }
    let timings = String::from_utf8(read("two", "timings.jsonl")).unwrap();
    assert!(timings.contains("\"processes\":["), "{timings}");
}
