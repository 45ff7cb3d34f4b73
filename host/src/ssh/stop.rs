//! Stopping a command: signals through the channel (RFC 4254, 6.9), and where the server does not pass them on, signals from
//! a second channel of the same connection.
//!
//! OpenSSH passes no signals on when the login is root's, which is the login that matters most: it says so in its own log
//! only. There the command is looked up among the children of the connection's `sshd`, of which we are one, too.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use russh::{ChannelMsg, Sig};
use tokio::time::{Instant, sleep, timeout};

use super::quote::command_line;
use super::running::{Entry, Rank};
use super::session::Session;

/// What is sent to stop a command, and how long each may take to work: two seconds in all.
pub const SIGNALS: [(Sig, &str, Duration); 3] = [
    (Sig::INT, "INT", Duration::from_millis(800)),
    (Sig::TERM, "TERM", Duration::from_millis(800)),
    (Sig::KILL, "KILL", Duration::from_millis(400)),
];

/// How long the second channel may take for its three signals.
const LIMIT: Duration = Duration::from_secs(10);

/// How often one of several commands with the same line is looked for, and the time between.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(100);

/// What the second channel says of a command that it cannot tell from others.
const UNKNOWN: &str = "unknown";

/// What the second channel may print before it is not believed to be ours.
const PRINTS: usize = 256;

/// Finds the command. `$1` is the line that was run, `$2` its age in hundredths of a second, `$4` its process id where that is
/// known, `$5` which it is of the `$6` commands with this line that run on this connection.
///
/// Every command of a connection is a child of the same `sshd` process and leads a process group of its own. Ours is the
/// one that still shows the line that it was started with, as a shell's argument or, where a shell replaced itself by a
/// plain command, as that command's words. Where there is none, because words were quoted, it is the only one of the right
/// age, give or take a second. On a busy machine this script may begin late, so a line that is the same may be up to five
/// seconds older. Of several with the same line it is the one with the same place in the order of their start, if there are
/// as many as we know of. Two that could be meant otherwise are both left alone.
const FIND: &str = r#"me=$$; line=$1; age=$2
read -r up rest </proc/uptime || exit 1
hz=$(getconf CLK_TCK 2>/dev/null) || hz=100
stat() { { read -r s <"/proc/$1/stat"; } 2>/dev/null || return 1; set -- ${s##*) }; state=$1; parent=$2; group=$3; shift 19; born=$1; }
lives() { for q in /proc/[0-9]*; do stat "${q#/proc/}" && [ "$group" = "$p" ] && [ "$state" != Z ] && return 0; done; return 1; }
stat $me || exit 1
ours=$parent
if [ -n "$4" ]; then
p=$4
# One that is not ours has its number from one that has ended; one that leads no group is not what sshd starts.
if stat "$p" && { [ "$parent" != "$ours" ] || [ "$group" != "$p" ]; }; then echo unknown; exit; fi
else
exact=; late=; near=; n=0; m=0; l=0; all=; a=0
for p in /proc/[0-9]*; do
  p=${p#/proc/}
  [ "$p" = $me ] && continue
  stat "$p" || continue
  [ "$parent" = "$ours" ] || continue
  [ "$group" = "$p" ] || continue
  d=$(( ${up%.*}${up#*.} - born * 100 / hz - age ))
  same=0
  case $(tr '\0' '\n' <"/proc/$p/cmdline" 2>/dev/null) in *"$line") same=1 ;; esac
  case $(tr '\0' ' ' <"/proc/$p/cmdline" 2>/dev/null) in "$line ") same=1 ;; esac
  [ $same = 1 ] && { all="$all $born:$p"; a=$((a + 1)); }
  [ $d -ge -100 ] && [ $d -le 500 ] || continue
  if [ $d -gt 100 ]; then
    [ $same = 1 ] && { late=$p; l=$((l + 1)); }
    continue
  fi
  near=$p; n=$((n + 1))
  [ $same = 1 ] && { exact=$p; m=$((m + 1)); }
done
if [ "$6" -gt 1 ] && [ $a = "$6" ]; then
  for c in $all; do
    k=1
    for o in $all; do
      [ ${o%:*} -lt ${c%:*} ] || { [ ${o%:*} = ${c%:*} ] && [ ${o#*:} -lt ${c#*:} ]; } && k=$((k + 1))
    done
    [ $k = "$5" ] && { p=${c#*:}; break; }
  done
elif [ $m = 1 ]; then p=$exact
elif [ $m = 0 ] && [ $l = 1 ]; then p=$late
elif [ $m = 0 ] && [ $l = 0 ] && [ $n = 1 ]; then p=$near
else echo unknown; exit
fi
fi
"#;

/// Stops what was found.
const STOP: &str = r#"sent=
for s in INT TERM KILL; do
  kill -s $s -- -$p 2>/dev/null && sent="$sent $s"
  for i in 1 2 3 4 5 6; do
    lives || { echo ended$sent; exit; }
    sleep 0.1 2>/dev/null || sleep 1
  done
done
echo alive$sent"#;

/// Sends the signal `$3` to what was found.
const SIGNAL: &str = r#"kill -s "$3" -- -$p 2>/dev/null && echo sent"#;

/// By what the command is found that was run on this connection.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub line: String,
    /// Filled once it is known.
    pub pid: Arc<OnceLock<u32>>,
    pub started: Instant,
    /// Gone once its end is known.
    pub entry: Weak<Entry>,
}

impl Wanted {
    fn rank(&self) -> Option<Rank> {
        self.entry.upgrade().map(|entry| entry.rank())
    }

    /// Others with the same line run on the connection.
    fn is_one_of_many(&self) -> bool {
        self.rank().is_some_and(|rank| rank.of > 1)
    }
}

/// Stops the command: the signals that it was sent, and whether its end was seen.
pub async fn from_second_channel(session: &Session, wanted: &Wanted) -> (Vec<&'static str>, bool) {
    let one_of_many = async {
        let _alone = session.running.stopping().await;
        // Their number may have changed on the server, and not here yet.
        for _ in 0..ATTEMPTS {
            let said = ask(session, STOP, wanted, "").await;
            if said.as_deref() != Some(UNKNOWN) || wanted.rank().is_none() {
                return said;
            }
            sleep(PAUSE).await;
        }
        None
    };
    let said = if wanted.is_one_of_many() {
        timeout(LIMIT, one_of_many).await.ok().flatten()
    } else {
        ask(session, STOP, wanted, "").await
    };
    let said = said.unwrap_or_default();
    let has = |word: &str| said.split(' ').any(|said| said == word);
    (SIGNALS.iter().map(|(_, name, _)| *name).filter(|name| has(name)).collect(), has("ended"))
}

/// Sends one signal to the command. `true` when it was sent.
pub async fn signal(session: &Session, wanted: &Wanted, name: &str) -> bool {
    ask(session, SIGNAL, wanted, name).await.as_deref() == Some("sent")
}

/// Finds the command and does something to it; what the server says of that.
async fn ask(session: &Session, act: &str, wanted: &Wanted, signal: &str) -> Option<String> {
    let script = format!("{FIND}{act}");
    let age = (wanted.started.elapsed().as_millis() / 10).to_string();
    let pid = wanted.pid.get().map(u32::to_string).unwrap_or_default();
    let Rank { place, of } = wanted.rank().unwrap_or(Rank { place: 1, of: 1 });
    let (place, of) = (place.to_string(), of.to_string());
    let words = ["-c", &script, "sh", &wanted.line, &age, signal, &pid, &place, &of].map(str::to_owned);
    let script = command_line("sh", &words, &[], false).ok()?;
    let attempt = async {
        let mut channel = session.open_channel().await.ok()?;
        channel.exec(false, script.into_bytes()).await.ok()?;
        channel.eof().await.ok()?;
        let mut said = Vec::new();
        while let Some(message) = channel.wait().await {
            if let ChannelMsg::Data { data } = message
                && said.len() < PRINTS
            {
                said.extend_from_slice(&data);
            }
        }
        Some(String::from_utf8_lossy(said.trim_ascii()).into_owned())
    };
    timeout(LIMIT, attempt).await.ok().flatten()
}
