//! Joins the group that a launcher has started, and prints what this process of it sees:
//! `torchrun --nproc-per-node 2 --no-python process_group`, or `srun process_group`.

use std::error::Error;
use std::process::exit;

use isr_api::ProcessGroup;
use isr_torch::process_group::{Rendezvous, Settings, join};

fn main() -> Result<(), Box<dyn Error>> {
    let Some(place) = Rendezvous::from_env()? else {
        println!("one process");
        return Ok(());
    };
    let settings = Settings::default();
    let group = join(
        place,
        settings,
        Box::new(|message| {
            eprintln!("error: {message}");
            exit(1);
        }),
    )?;
    let ranks = group.all_gather(group.rank().to_string().as_bytes())?;
    let ranks: Vec<_> = ranks.iter().map(|bytes| String::from_utf8_lossy(bytes)).collect();
    let first = group.broadcast(std::process::id().to_string().as_bytes(), 0)?;
    let first = String::from_utf8_lossy(&first);
    let number = group.next("numbers")?;
    println!("rank {} sees {} and process {first}, and took {number}", group.rank(), ranks.join(" "));
    group.leave()?;
    Ok(())
}
