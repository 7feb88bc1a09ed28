//! Puts a second at 1, 64 and 1000 writers: `cargo run --release -p store --example puts [DIRECTORY]`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use store::{Embedded, Options, Store};

const FOR: Duration = Duration::from_secs(3);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = match std::env::args_os().nth(1) {
        Some(directory) => directory.into(),
        None => std::env::temp_dir().join(format!("store-puts-{}", std::process::id())),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for writers in [1, 64, 1000] {
        let store = Arc::new(Embedded::open_blocking(directory.join(writers.to_string()), Options::default())?);
        let done = Arc::new(AtomicU64::new(0));
        let began = Instant::now();
        let writer = |writer: u64| {
            let (store, done) = (store.clone(), done.clone());
            async move {
                let value = vec![b'v'; 1024];
                let mut number = 0_u64;
                while began.elapsed() < FOR {
                    number += 1;
                    let key = format!("/registry/pods/default/{writer}-{}", number % 100);
                    store.put(key.as_bytes(), value.clone().into()).await?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<(), store::Error>(())
            }
        };
        runtime.block_on(async {
            let tasks: Vec<_> = (0..writers).map(|number| tokio::spawn(writer(number))).collect();
            for task in tasks {
                task.await??;
            }
            Ok::<(), Box<dyn std::error::Error>>(())
        })?;
        let rate = done.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
        println!("{writers:>5} writers: {rate:>9.0} puts/s of 1 KiB");
    }
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}
