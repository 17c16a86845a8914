//! Child processes: without secrets in their environment, and with a limit on their output.

use std::io::{self, Read};
use std::process::{Child, Command, Output, Stdio};

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::base::bounds::{MAX_OUTPUT, read_to_end, too_large};
use crate::base::env_vars;

/// Variables that contain a token. No child process needs one.
pub(crate) const SECRETS: [&str; 8] = [
    env_vars::NIX_CACHE_INPUTS,
    env_vars::NIX_CACHE_SECRETS,
    env_vars::ACTIONS_RUNTIME_TOKEN,
    env_vars::ACTIONS_ID_TOKEN_REQUEST_TOKEN,
    env_vars::GITHUB_TOKEN,
    env_vars::GH_TOKEN,
    env_vars::NIX_CACHE_PUSH_LOGIN,
    env_vars::NIX_CACHE_PUSH_TOKEN,
];

/// Returns whether a variable contains a token or says where one can be used: inputs of actions and the runner's variables for
/// its own actions.
pub(crate) fn is_secret(name: &str) -> bool {
    SECRETS.contains(&name) || name.starts_with(env_vars::ACTIONS_PREFIX) || name.starts_with(env_vars::INPUT_PREFIX)
}

/// Returns whether a variable can contain a login of the user's, such as one for a binary cache or an object store. Programs of the user's
/// need them.
pub(crate) fn is_login(name: &str) -> bool {
    const WORDS: [&str; 6] = ["AUTH", "CREDENTIAL", "LOGIN", "PASS", "SECRET", "TOKEN"];
    let is_known = name.ends_with("_KEY") || env_vars::LOGIN_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    !is_secret(name) && (is_known || WORDS.iter().any(|word| name.contains(word)))
}

/// Removes the variables that [`is_secret`] names from `command`. Every process that this program starts goes through here.
pub(crate) fn without_secrets(command: &mut Command) -> &mut Command {
    for name in SECRETS {
        command.env_remove(name);
    }
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_secret) {
            command.env_remove(name);
        }
    }
    command
}

/// Number of bytes of standard error that are kept: the end, which has the reason.
const MAX_SAID: usize = 1 << 20;

/// Like [`Command::output`], for a program that prints at most [`MAX_OUTPUT`]. A program that prints more is killed. The last
/// megabyte of standard error is kept.
///
/// # Errors
/// When it cannot be started, or prints more.
pub(crate) fn output(command: &mut Command) -> io::Result<Output> {
    #[allow(clippy::disallowed_methods, reason = "all it prints goes through pipes")]
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let said = child.stderr.take().map(|stderr| std::thread::spawn(move || read_end(stderr)));
    let printed = read_printed(&mut child);
    if printed.is_err() {
        // It may already have ended.
        let _ = child.kill();
    }
    let status = child.wait()?;
    let stderr = said.and_then(|said| said.join().ok()).unwrap_or_default();
    Ok(Output { status, stdout: printed?, stderr })
}

fn read_printed(child: &mut Child) -> io::Result<Vec<u8>> {
    child.stdout.take().map_or_else(|| Ok(Vec::new()), |stdout| read_to_end(stdout, MAX_OUTPUT))
}

fn read_end(mut reader: impl Read) -> Vec<u8> {
    let (mut kept, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        match reader.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return kept,
            Ok(read) => keep_end(&mut kept, &buffer[..read]),
        }
    }
}

fn keep_end(kept: &mut Vec<u8>, more: &[u8]) {
    kept.extend_from_slice(more);
    if kept.len() > 2 * MAX_SAID {
        kept.drain(..kept.len() - MAX_SAID);
    }
}

/// Like [`output`], without blocking the thread.
///
/// # Errors
/// See [`output`].
pub(crate) async fn output_of(command: &mut tokio::process::Command) -> io::Result<Output> {
    #[allow(clippy::disallowed_methods, reason = "all it prints goes through pipes")]
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let read = tokio::join!(read_up_to(stdout, MAX_OUTPUT), read_end_of(stderr));
    if read.0.is_err() {
        // It may already have ended.
        let _ = child.start_kill();
    }
    let status = child.wait().await?;
    Ok(Output { status, stdout: read.0?, stderr: read.1 })
}

/// Reads a pipe to its end, up to `most` bytes.
///
/// # Errors
/// When it cannot be read, or has more; then the pipe is closed.
pub(crate) async fn read_up_to(pipe: Option<impl AsyncRead + Unpin>, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let Some(pipe) = pipe else { return Ok(bytes) };
    pipe.take(most + 1).read_to_end(&mut bytes).await?;
    if bytes.len() as u64 > most { Err(too_large(most)) } else { Ok(bytes) }
}

async fn read_end_of(pipe: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut pipe) = pipe else { return kept };
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read) = pipe.read(&mut buffer).await {
        if read == 0 {
            break;
        }
        keep_end(&mut kept, &buffer[..read]);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_of_the_user_are_told_from_our_tokens_and_from_the_rest() {
        for name in [
            "AWS_SECRET_ACCESS_KEY",
            "AWS_REGION",
            "CACHIX_AUTH_TOKEN",
            "NIKS3_AUTH_TOKEN_FILE",
            "MY_API_KEY",
            "DB_PASSWORD",
        ] {
            assert!(is_login(name) && !is_secret(name), "{name}");
        }
        // Git needs those beside its count.
        for name in ["PATH", "HOME", "NIX_CONFIG", "GIT_CONFIG_KEY_0", "RUNNER_TRACKING_ID", "STATE_nix_cache_key"] {
            assert!(!is_login(name) && !is_secret(name), "{name}");
        }
        for name in
            [env_vars::GITHUB_TOKEN, env_vars::NIX_CACHE_PUSH_LOGIN, "ACTIONS_RUNTIME_TOKEN", "INPUT_SIGNING-KEY"]
        {
            assert!(is_secret(name) && !is_login(name), "{name}");
        }
    }

    #[tokio::test]
    async fn a_program_that_prints_without_end_is_ended() {
        let error = output(Command::new("cat").arg("/dev/zero")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        let error = output_of(tokio::process::Command::new("cat").arg("/dev/zero")).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }

    #[tokio::test]
    async fn of_what_it_says_the_end_is_kept() {
        let script = "echo printed; head -c 9000000 /dev/zero >&2; echo reason >&2; exit 3";
        let both = [
            output(Command::new("sh").args(["-c", script])).unwrap(),
            output_of(tokio::process::Command::new("sh").args(["-c", script])).await.unwrap(),
        ];
        for Output { status, stdout, stderr } in both {
            assert_eq!((status.code(), &*stdout), (Some(3), &b"printed\n"[..]));
            assert!(stderr.len() <= 2 * MAX_SAID && stderr.ends_with(b"reason\n"), "{}", stderr.len());
        }
    }
}
