//! The first-boot set-up as a cloud-init NoCloud seed: a small FAT image labelled `CIDATA`.
//!
//! Source: cloud-init, "NoCloud" data source: a vfat or iso9660 file system labelled `cidata` or `CIDATA` with the
//! files `user-data`, `meta-data` and optionally `network-config`. FAT is made by the crate `fatfs`; its sectors have
//! 2,048 bytes, so the image can be mounted from an optical drive as well as from a disk. The contents are written as
//! JSON, which is YAML, so nothing in them has to be quoted by hand.

use std::io::{Cursor, Write as _};

use serde_json::{Map, Value, json};

/// Size of the image. FAT12 with 2,048-byte sectors needs little more than the files.
const IMAGE_BYTES: usize = 2 * 1024 * 1024;
/// Most bytes that one file may have.
const MAX_FILE: usize = 512 * 1024;

/// What the guest shall find.
#[derive(Clone, Default)]
pub struct Seed {
    /// Identifies this first boot: a changed one makes cloud-init run again.
    pub instance_id: String,
    /// Host name.
    pub hostname: String,
    /// Login to set up; `None` leaves the image's own.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<String>,
    /// Its public SSH keys.
    pub ssh_keys: Vec<String>,
    /// The client's own user data, which is read besides ours.
    pub user_data: Option<String>,
    /// cloud-init network configuration, version 2; absent means the image's own (DHCP).
    pub network: Option<Value>,
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seed")
            .field("instance_id", &self.instance_id)
            .field("hostname", &self.hostname)
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .finish_non_exhaustive()
    }
}

/// Why no image could be made.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// A file is too large.
    #[error("the first-boot file {name} has {bytes} bytes; at most {MAX_FILE} fit")]
    TooLarge {
        /// The file.
        name: &'static str,
        /// Its size.
        bytes: usize,
    },
    /// The client's user data is of a form that cannot be read besides ours.
    #[error(
        "user data of several MIME parts cannot be joined with the first-boot set-up; give one part, or an archive"
    )]
    MultiPart,
    /// The file system could not be made.
    #[error("the first-boot image could not be made: {0}")]
    Image(#[from] std::io::Error),
    /// A value could not be written.
    #[error("the first-boot data could not be written: {0}")]
    Data(#[from] serde_json::Error),
}

impl Seed {
    /// The `user-data` file. The client's own comes in an archive with ours: cloud-init reads both, and where both
    /// state one thing the client's stays and lists are joined.
    ///
    /// # Errors
    /// [`SeedError::Data`] when a value cannot be written; [`SeedError::MultiPart`].
    pub fn user_data_file(&self) -> Result<String, SeedError> {
        let Some(theirs) = &self.user_data else {
            return self.own_user_data(None);
        };
        let head = theirs.trim_start().to_ascii_lowercase();
        if head.starts_with("content-type:") || head.starts_with("mime-version:") {
            return Err(SeedError::MultiPart);
        }
        let merge = json!([
            {"name": "list", "settings": ["append"]},
            {"name": "dict", "settings": ["no_replace", "recurse_list"]},
        ]);
        let archive = json!([
            {"content": theirs},
            {"type": "text/cloud-config", "content": self.own_user_data(Some(merge))?},
        ]);
        Ok(format!(
            "#cloud-config-archive\n{}\n",
            serde_json::to_string_pretty(&archive)?
        ))
    }

    fn own_user_data(&self, merge_how: Option<Value>) -> Result<String, SeedError> {
        let mut data = Map::new();
        if let Some(merge_how) = merge_how {
            data.insert("merge_how".into(), merge_how);
        }
        data.insert("hostname".into(), json!(self.hostname));
        data.insert("manage_etc_hosts".into(), json!(true));
        if let Some(user) = &self.user {
            let mut account = Map::new();
            account.insert("name".into(), json!(user));
            account.insert("lock_passwd".into(), json!(self.password.is_none()));
            if user != "root" {
                account.insert("sudo".into(), json!("ALL=(ALL) NOPASSWD:ALL"));
                account.insert("shell".into(), json!("/bin/bash"));
            }
            if !self.ssh_keys.is_empty() {
                account.insert("ssh_authorized_keys".into(), json!(self.ssh_keys));
            }
            data.insert("users".into(), json!([Value::Object(account)]));
            if user == "root" {
                data.insert("disable_root".into(), json!(false));
            }
            if let Some(password) = &self.password {
                data.insert("ssh_pwauth".into(), json!(true));
                data.insert(
                    "chpasswd".into(),
                    json!({"expire": false, "users": [{"name": user, "password": password, "type": "text"}]}),
                );
            }
        }
        Ok(format!(
            "#cloud-config\n{}\n",
            serde_json::to_string_pretty(&Value::Object(data))?
        ))
    }

    /// The `meta-data` file.
    ///
    /// # Errors
    /// [`SeedError::Data`] when a value cannot be written.
    pub fn meta_data(&self) -> Result<String, SeedError> {
        let data = json!({"instance-id": self.instance_id, "local-hostname": self.hostname});
        Ok(format!("{}\n", serde_json::to_string_pretty(&data)?))
    }

    /// The whole image, ready to be put into an optical drive or attached as a disk.
    ///
    /// # Errors
    /// When a file is too large or the image cannot be made.
    pub fn image(&self) -> Result<Vec<u8>, SeedError> {
        let mut files = vec![
            ("user-data", self.user_data_file()?),
            ("meta-data", self.meta_data()?),
        ];
        if let Some(network) = &self.network {
            files.push((
                "network-config",
                format!("{}\n", serde_json::to_string_pretty(network)?),
            ));
        }
        let mut image = vec![0_u8; IMAGE_BYTES];
        let options = fatfs::FormatVolumeOptions::new()
            .bytes_per_sector(2048)
            .bytes_per_cluster(2048)
            .volume_label(*b"CIDATA     ");
        fatfs::format_volume(Cursor::new(image.as_mut_slice()), options)?;
        {
            let mut cursor = Cursor::new(image.as_mut_slice());
            let disk = fatfs::FileSystem::new(&mut cursor, fatfs::FsOptions::new())?;
            let root = disk.root_dir();
            for (name, text) in &files {
                if text.len() > MAX_FILE {
                    return Err(SeedError::TooLarge {
                        name,
                        bytes: text.len(),
                    });
                }
                root.create_file(name)?.write_all(text.as_bytes())?;
            }
        }
        Ok(image)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn seed() -> Seed {
        Seed {
            instance_id: "i-1".into(),
            hostname: "web: \"1\"\n# not yaml".into(),
            user: Some("admin".into()),
            password: Some("pa'ss: {word}".into()),
            ssh_keys: vec!["ssh-ed25519 AAAA you@example".into()],
            user_data: None,
            network: Some(json!({"version": 2})),
        }
    }

    fn read(image: &mut [u8], name: &str) -> String {
        let mut cursor = Cursor::new(image);
        let disk = fatfs::FileSystem::new(&mut cursor, fatfs::FsOptions::new()).unwrap();
        let mut text = String::new();
        disk.root_dir()
            .open_file(name)
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        text
    }

    #[test]
    fn the_image_carries_the_label_and_the_three_files_under_their_names() {
        let mut image = seed().image().unwrap();
        {
            let mut cursor = Cursor::new(image.as_mut_slice());
            let disk = fatfs::FileSystem::new(&mut cursor, fatfs::FsOptions::new()).unwrap();
            assert_eq!(disk.volume_label().trim(), "CIDATA");
            let names: Vec<_> = disk.root_dir().iter().map(|e| e.unwrap().file_name()).collect();
            assert!(
                ["user-data", "meta-data", "network-config"]
                    .iter()
                    .all(|n| names.iter().any(|m| m == n))
            );
        }
        assert!(read(&mut image, "user-data").starts_with("#cloud-config\n{"));
        let meta: Value = serde_json::from_str(&read(&mut image, "meta-data")).unwrap();
        assert_eq!(meta["instance-id"], "i-1");
    }

    #[test]
    fn hostile_values_stay_values() {
        let text = seed().user_data_file().unwrap();
        let data: Value = serde_json::from_str(text.trim_start_matches("#cloud-config\n")).unwrap();
        assert_eq!(data["hostname"], "web: \"1\"\n# not yaml");
        assert_eq!(data["chpasswd"]["users"][0]["password"], "pa'ss: {word}");
    }

    #[test]
    fn the_clients_user_data_stands_beside_ours_and_unchanged() {
        let theirs = "#!/bin/sh\necho \"hello\" > /run/x\n";
        let seed = Seed {
            user_data: Some(theirs.into()),
            ..seed()
        };
        let text = seed.user_data_file().unwrap();
        let archive: Value =
            serde_json::from_str(text.strip_prefix("#cloud-config-archive\n").unwrap()).unwrap();
        assert_eq!(archive[0]["content"], theirs);
        let ours = archive[1]["content"].as_str().unwrap();
        assert!(ours.starts_with("#cloud-config\n") && ours.contains("merge_how") && ours.contains("admin"));
        let multipart = Seed {
            user_data: Some("MIME-Version: 1.0\n".into()),
            ..seed
        };
        assert!(matches!(multipart.image(), Err(SeedError::MultiPart)));
    }

    #[test]
    fn the_password_is_not_printed() {
        let seed = Seed {
            user_data: Some("my secret".into()),
            ..seed()
        };
        let printed = format!("{seed:?}");
        assert!(!printed.contains("word}") && !printed.contains("my secret"));
    }

    #[test]
    fn a_file_that_does_not_fit_is_refused() {
        let seed = Seed {
            ssh_keys: vec!["k".repeat(MAX_FILE + 1)],
            user: Some("a".into()),
            ..seed()
        };
        assert!(matches!(
            seed.image(),
            Err(SeedError::TooLarge {
                name: "user-data",
                ..
            })
        ));
    }
}
