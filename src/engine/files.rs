//! Files of containers, through the Engine's archive API: it takes and gives them as tar, and works on containers that
//! don't run.

use std::io::Read;

use bollard::query_parameters::{DownloadFromContainerOptionsBuilder, UploadToContainerOptionsBuilder};
use bytes::Bytes;
use futures::StreamExt;

use super::{Engine, EngineError};

/// Largest archive that is read, in bytes: what comes from a container is not to be trusted.
const MAX_ARCHIVE: usize = 8 << 20;

impl Engine {
    /// Writes a file into a folder of a container; `mode` as in chmod.
    pub async fn write_file(
        &self,
        id: &str,
        folder: &str,
        name: &str,
        mode: u32,
        content: &[u8],
    ) -> Result<(), EngineError> {
        let archive = archive(name, mode, content)
            .map_err(|source| EngineError::Io { action: "pack a file for a container", source })?;
        let options = UploadToContainerOptionsBuilder::default().path(folder).build();
        self.docker
            .upload_to_container(id, Some(options), bollard::body_full(Bytes::from(archive)))
            .await
            .map_err(EngineError::of("write a file into a container"))
    }

    /// Gives a folder in a container to a user. What is in it stays as it is.
    pub async fn own_folder(&self, id: &str, parent: &str, name: &str, owner: (u32, u32)) -> Result<(), EngineError> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        header.set_uid(owner.0.into());
        header.set_gid(owner.1.into());
        header.set_size(0);
        let mut builder = tar::Builder::new(Vec::new());
        let archive = builder
            .append_data(&mut header, format!("{name}/"), std::io::empty())
            .and_then(|()| builder.into_inner())
            .map_err(|source| EngineError::Io { action: "pack a folder for a container", source })?;
        let options = UploadToContainerOptionsBuilder::default().path(parent).build();
        self.docker
            .upload_to_container(id, Some(options), bollard::body_full(Bytes::from(archive)))
            .await
            .map_err(EngineError::of("give a volume to its user"))
    }

    /// Reads a file of a container. Nothing where there is none.
    pub async fn read_file(&self, id: &str, path: &str) -> Result<Option<Vec<u8>>, EngineError> {
        let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
        let mut pieces = Box::pin(self.docker.download_from_container(id, Some(options)));
        let mut archive = Vec::new();
        while let Some(piece) = pieces.next().await {
            match piece.map_err(EngineError::of("read a file of a container")) {
                Ok(piece) => archive.extend_from_slice(&piece),
                Err(error) if error.is_not_found() => return Ok(None),
                Err(error) => return Err(error),
            }
            if archive.len() > MAX_ARCHIVE {
                return Ok(None);
            }
        }
        first_file(&archive).map_err(|source| EngineError::Io { action: "read a file of a container", source })
    }
}

/// The content of the first thing in an archive, if it is a file. Nothing is unpacked, no name in it is looked at, and no more is
/// held than the archive has.
fn first_file(archive: &[u8]) -> std::io::Result<Option<Vec<u8>>> {
    let mut archive = tar::Archive::new(archive);
    let Some(entry) = archive.entries()?.next() else { return Ok(None) };
    let entry = entry?;
    if !entry.header().entry_type().is_file() {
        return Ok(None);
    }
    let mut content = Vec::new();
    let size = entry.size();
    entry.take(MAX_ARCHIVE as u64).read_to_end(&mut content)?;
    if content.len() as u64 == size { Ok(Some(content)) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}

fn archive(name: &str, mode: u32, content: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    header.set_entry_type(tar::EntryType::Regular);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header, name, content)?;
    builder.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry as a stranger may write it: a size, and a kind, in a header whose checksum is right.
    fn entry(name: &str, kind: tar::EntryType, size: u64, content: &[u8]) -> Vec<u8> {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    #[test]
    fn a_file_comes_out_of_its_archive() {
        assert_eq!(first_file(&archive("a", 0o600, b"content").unwrap()).unwrap().unwrap(), b"content");
        assert_eq!(first_file(&[]).unwrap(), None);
    }

    #[test]
    fn whatever_else_a_container_sends_is_no_file() {
        for kind in [tar::EntryType::Symlink, tar::EntryType::Link, tar::EntryType::Directory, tar::EntryType::Fifo] {
            assert_eq!(first_file(&entry("passwd", kind, 0, b"")).unwrap_or(None), None);
        }
        // More is promised than comes.
        assert!(first_file(&entry("a", tar::EntryType::Regular, 1 << 40, b"few")).is_err());
        assert!(first_file(b"no archive at all").is_err());
    }

    /// A size in a PAX record and another one in the header: readers that take the wrong one go on in the middle of the file,
    /// and find whatever entries lie there.
    #[test]
    fn cve_2025_62518_a_hidden_entry_is_content() {
        let hidden = entry("hidden", tar::EntryType::Regular, 3, b"bad");
        let record = format!("{} size={}\n", 9 + hidden.len().to_string().len(), hidden.len());
        let mut bytes = entry("pax", tar::EntryType::XHeader, record.len() as u64, record.as_bytes());
        bytes.extend(entry("outer", tar::EntryType::Regular, 0, &hidden));
        bytes.extend([0; 1_024]);
        assert_eq!(first_file(&bytes).unwrap().unwrap(), hidden);
    }
}
