//! The hub's stream as it is: raw messages by the rig's own client, without any decoding but the
//! frames' envelope, which is fixed for ever.

use std::collections::HashSet;

use anyhow::{Context as _, bail};
use async_nats::jetstream::context::CreateStreamErrorKind;
use futures_util::StreamExt as _;

use crate::wait;

/// A client of the server at `url`, with the user and password that stand in it: `async-nats` by
/// itself ignores them.
///
/// # Errors
/// When the URL is none, or the server cannot be reached or refuses.
pub async fn connect(url: &str) -> anyhow::Result<async_nats::Client> {
    let address: async_nats::ServerAddr = url.parse().with_context(|| format!("URL {url}"))?;
    let options = match (address.username(), address.password()) {
        (Some(user), Some(password)) => {
            let (user, password) = (user.to_owned(), password.to_owned());
            async_nats::ConnectOptions::with_user_and_password(user, password)
        }
        _ => async_nats::ConnectOptions::new(),
    };
    options.connect(address).await.with_context(|| format!("server {url}"))
}

/// How many messages a stream has ever taken in.
///
/// # Errors
/// When the server or the stream cannot be read.
pub async fn taken_in(url: &str, stream: &str) -> anyhow::Result<u64> {
    let jetstream = async_nats::jetstream::new(connect(url).await?);
    let mut stream = jetstream.get_stream(stream).await.context("the stream")?;
    Ok(stream.info().await.context("the stream's state")?.state.last_sequence)
}

/// How many messages a stream holds on each of its subjects.
///
/// # Errors
/// When the server or the stream cannot be read.
pub async fn subjects(url: &str, stream: &str) -> anyhow::Result<Vec<(String, usize)>> {
    let jetstream = async_nats::jetstream::new(connect(url).await?);
    let stream = jetstream.get_stream(stream).await.context("the stream")?;
    let mut told = stream.info_with_subjects(">").await.context("the stream's subjects")?;
    let mut subjects = Vec::new();
    while let Some(one) = told.next().await {
        subjects.push(one.context("the stream's subjects")?);
    }
    Ok(subjects)
}

/// Every message of a stream in its order: subject and payload.
///
/// # Errors
/// When the server or the stream cannot be read.
pub async fn messages(url: &str, stream: &str) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let jetstream = async_nats::jetstream::new(connect(url).await?);
    let mut stream = jetstream.get_stream(stream).await.context("the stream")?;
    let state = stream.info().await.context("the stream's state")?.state.clone();
    let mut messages = Vec::new();
    for sequence in state.first_sequence..=state.last_sequence {
        // In a cluster a replica that has just come back may be asked, and knows nothing yet.
        let what = format!("message {sequence} of the stream");
        let message = wait::until(wait::SOON, &what, || async {
            Ok(stream.get_raw_message(sequence).await.ok())
        })
        .await?;
        messages.push((message.subject.to_string(), message.payload.to_vec()));
    }
    Ok(messages)
}

/// Makes a stream anew, as its configuration says, with these messages and no others.
///
/// # Errors
/// When the server refuses.
pub async fn put(url: &str, stream: &str, messages: &[(String, Vec<u8>)]) -> anyhow::Result<()> {
    let jetstream = async_nats::jetstream::new(connect(url).await?);
    let found = jetstream.get_stream(stream).await.context("the stream")?;
    let config = found.cached_info().config.clone();
    jetstream.delete_stream(stream).await.context("deleting the stream")?;
    make_anew(&jetstream, &config).await?;
    for (subject, payload) in messages {
        let publish = jetstream.publish(subject.clone(), payload.clone().into()).await?;
        publish.await.context("a message of the copy")?;
    }
    Ok(())
}

/// Keeps a copy of every message of a stream, whatever the stream itself lets go of. A
/// mirror would do the same and also answer for the stream whoever reads it directly.
///
/// # Errors
/// When the server refuses.
pub async fn archive(url: &str, stream: &str, name: &str) -> anyhow::Result<()> {
    let jetstream = async_nats::jetstream::new(connect(url).await?);
    let config = async_nats::jetstream::stream::Config {
        name: name.to_owned(),
        sources: Some(vec![async_nats::jetstream::stream::Source {
            name: stream.to_owned(),
            ..Default::default()
        }]),
        ..Default::default()
    };
    jetstream.create_stream(config).await.context("the archive")?;
    Ok(())
}

/// A server whose disk is busy still removes what it deleted, and then cannot make the store.
async fn make_anew(
    jetstream: &async_nats::jetstream::Context,
    config: &async_nats::jetstream::stream::Config,
) -> anyhow::Result<()> {
    wait::until(wait::SOON, "the stream is made anew", || async {
        Ok(jetstream.create_stream(config.clone()).await.ok().map(|_| ()))
    })
    .await
}

/// Changes how a stream is configured; what cannot be changed is done by making it anew.
///
/// # Errors
/// When the server refuses.
pub async fn configure(
    url: &str,
    stream: &str,
    anew: bool,
    change: impl FnOnce(&mut async_nats::jetstream::stream::Config),
) -> anyhow::Result<()> {
    let jetstream = async_nats::jetstream::new(connect(url).await?);
    let found = jetstream.get_stream(stream).await.context("the stream")?;
    let mut config = found.cached_info().config.clone();
    change(&mut config);
    if anew {
        jetstream.delete_stream(stream).await.context("deleting the stream")?;
        make_anew(&jetstream, &config).await?;
    } else {
        update(&jetstream, &config).await?;
    }
    Ok(())
}

/// Has a stream run another configuration. A cluster that is choosing a leader answers nobody:
/// what was asked of it meanwhile is asked again.
///
/// # Errors
/// When the server refuses, or nobody answers.
pub async fn update(
    jetstream: &async_nats::jetstream::Context,
    config: &async_nats::jetstream::stream::Config,
) -> anyhow::Result<()> {
    wait::until(wait::SOON, "the stream is changed", || async {
        match jetstream.update_stream(config).await {
            Ok(_) => Ok(Some(())),
            Err(error) if error.kind() == CreateStreamErrorKind::TimedOut => Ok(None),
            Err(error) => Err(error).context("changing the stream"),
        }
    })
    .await
}

/// Removes what a stream holds: all of it, or what stands on one subject.
///
/// # Errors
/// When the server refuses.
pub async fn purge(url: &str, stream: &str, subject: Option<&str>) -> anyhow::Result<u64> {
    let jetstream = async_nats::jetstream::new(connect(url).await?);
    let found = jetstream.get_stream(stream).await.context("the stream")?;
    let purged = match subject {
        Some(subject) => found.purge().filter(subject).await,
        None => found.purge().await,
    };
    Ok(purged.context("purging the stream")?.purged)
}

/// How many messages a stream holds, and the first and the last sequence.
///
/// # Errors
/// When the server or the stream cannot be read.
pub async fn span(url: &str, stream: &str) -> anyhow::Result<(u64, u64, u64)> {
    let jetstream = async_nats::jetstream::new(connect(url).await?);
    let mut stream = jetstream.get_stream(stream).await.context("the stream")?;
    let state = &stream.info().await.context("the stream's state")?.state;
    Ok((state.messages, state.first_sequence, state.last_sequence))
}

/// How many bytes a stream holds, as it counts them.
///
/// # Errors
/// When the server or the stream cannot be read.
pub async fn bytes(url: &str, stream: &str) -> anyhow::Result<u64> {
    let jetstream = async_nats::jetstream::new(connect(url).await?);
    let mut stream = jetstream.get_stream(stream).await.context("the stream")?;
    Ok(stream.info().await.context("the stream's state")?.state.bytes)
}

/// Splits a message into its frames: `TGFR`, then the length in little-endian, envelope included.
///
/// # Errors
/// When something in the message is no whole frame.
pub fn frames(mut message: &[u8]) -> anyhow::Result<Vec<&[u8]>> {
    let mut frames = Vec::new();
    while !message.is_empty() {
        let Some((b"TGFR", rest)) = message.split_first_chunk::<4>() else {
            bail!("a frame begins without its magic");
        };
        let length = rest.first_chunk::<4>().context("a frame is cut off in its length")?;
        let length = usize::try_from(u32::from_le_bytes(*length))?;
        let (frame, after) = message
            .split_at_checked(length)
            .filter(|_| length >= 16)
            .with_context(|| format!("a frame's length is {length} of {}", message.len()))?;
        frames.push(frame);
        message = after;
    }
    Ok(frames)
}

/// How many frames the messages hold, each once.
///
/// # Errors
/// When one is held twice, or something is no frame.
pub fn count_distinct_frames(messages: &[(String, Vec<u8>)]) -> anyhow::Result<usize> {
    let mut seen = HashSet::new();
    for (subject, payload) in messages {
        for frame in frames(payload).with_context(|| subject.clone())? {
            if !seen.insert((subject, frame)) {
                bail!("{subject} holds the same frame of {} bytes twice", frame.len());
            }
        }
    }
    Ok(seen.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(16 + body.len()).unwrap();
        [b"TGFR", &length.to_le_bytes()[..], &[0; 8], body].concat()
    }

    fn message(frames: &[Vec<u8>]) -> (String, Vec<u8>) {
        ("s".to_owned(), frames.concat())
    }

    #[test]
    fn concatenated_frames_are_told_apart() {
        let one = message(&[frame(b"a"), frame(b""), frame(b"bc")]);
        assert_eq!(frames(&one.1).unwrap().len(), 3);
        assert_eq!(count_distinct_frames(&[one]).unwrap(), 3);
    }

    #[test]
    fn the_same_frame_in_two_messages_is_found() {
        let messages = [message(&[frame(b"a"), frame(b"b")]), message(&[frame(b"b")])];
        assert!(count_distinct_frames(&messages).is_err());
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        for bad in [&b"TGF"[..], b"XXXX", b"TGFR\xff\xff\xff\xff", b"TGFR\x04\0\0\0"] {
            assert!(frames(bad).is_err(), "{bad:?}");
        }
    }
}
