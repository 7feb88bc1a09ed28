//! Signals by the names that `lifecycle.stopSignal` and images use.

pub const SIGTERM: i32 = 15;
pub const SIGKILL: i32 = 9;

/// Linux numbers, in order from 1; the same on every architecture that Kubernetes runs on.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// The number of `SIGUSR1`, `USR1` or `10`; SIGTERM when there is none or it is unknown.
pub fn signal_number(name: Option<&str>) -> i32 {
    let Some(name) = name else { return SIGTERM };
    if let Ok(number) = name.parse::<i32>() {
        return if (1..=RTMAX).contains(&number) { number } else { SIGTERM };
    }
    let short = name.strip_prefix("SIG").unwrap_or(name);
    let listed = NAMES.iter().position(|known| *known == short).map(|index| index as i32 + 1);
    listed.or_else(|| real_time(short)).unwrap_or(SIGTERM)
}

fn real_time(short: &str) -> Option<i32> {
    let number = match short {
        "RTMIN" => RTMIN,
        "RTMAX" => RTMAX,
        _ => match (short.strip_prefix("RTMIN+"), short.strip_prefix("RTMAX-")) {
            (Some(up), _) => RTMIN + up.parse::<i32>().ok()?,
            (_, Some(down)) => RTMAX - down.parse::<i32>().ok()?,
            _ => return None,
        },
    };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::signal_number;

    #[test]
    fn names_numbers_and_nonsense() {
        let cases = [("SIGTERM", 15), ("USR1", 10), ("SIGSYS", 31), ("3", 3), ("SIGRTMIN+3", 37), ("SIGX", 15)];
        for (name, number) in cases {
            assert_eq!(signal_number(Some(name)), number, "{name}");
        }
        assert_eq!(signal_number(None), 15);
    }
}
