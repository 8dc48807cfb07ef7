//! The operation log of a machine: the jobs that worked on it, whichever dialect asked for them, newest first. Jobs
//! are kept for as long as the site says, and so is the log.

use babelvisor_core::command::{Command, ImageAction, PowerAction, SnapshotAction, Subject, VolumeAction};
use babelvisor_core::model::{Job, JobState, Vm};
use babelvisor_core::store::JobFilter;
use serde::Serialize;

use crate::V1Compute;
use crate::call::{Call, ComputeIdentifier};
use crate::encode::Data;
use crate::error::Fault;
use crate::operations::{Row, row};

/// The operations of this file.
pub(crate) const ROWS: &[Row] = &[row!("compute.log", log)];

/// How many jobs of all machines are looked through.
const LOOKED_THROUGH: usize = 20_000;

#[derive(Serialize)]
struct Entry<'a> {
    #[serde(rename = "UUID")]
    uuid: String,
    #[serde(rename = "ObjectType")]
    kind: &'static str,
    #[serde(rename = "ObjectUUID")]
    object: String,
    #[serde(rename = "ObjectName")]
    name: &'a str,
    #[serde(rename = "Ctime")]
    written: i64,
    #[serde(rename = "Message")]
    message: String,
    #[serde(rename = "StartTime")]
    start: i64,
    #[serde(rename = "EndTime")]
    end: i64,
}

#[derive(Serialize)]
struct Log<'a> {
    total_count: usize,
    infos: Vec<Entry<'a>>,
}

impl V1Compute {
    /// `compute.log`: what has ended, in the words of the original, which are Chinese.
    pub(crate) async fn log(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let vm = self
            .machine(&call.caller, &ComputeIdentifier::of(&call.params), true)
            .await?;
        let subject = Subject::vm(vm.id);
        let filter = JobFilter {
            unfinished: false,
            limit: LOOKED_THROUGH,
        };
        let jobs = self.core.registry().store().jobs(&filter).await?;
        let ended = jobs
            .iter()
            .filter(|job| job.subjects.contains(&subject) && job.state.ended());
        let infos: Vec<Entry<'_>> = ended
            .take(self.settings.log_entries)
            .map(|job| entry(&vm, job))
            .collect();
        Data::of(&Log {
            total_count: infos.len(),
            infos,
        })
    }
}

fn entry<'a>(vm: &'a Vm, job: &Job) -> Entry<'a> {
    let start = job.started.unwrap_or(job.submitted).as_second();
    let end = job.ended.map_or(start, |end| end.as_second());
    Entry {
        uuid: job.id.to_string(),
        kind: "Compute",
        object: vm.id.to_string(),
        name: vm.name(),
        written: end,
        message: message(job),
        start,
        end,
    }
}

fn message(job: &Job) -> String {
    let what = words(&job.command);
    match job.state {
        JobState::Failed => format!("{what}失败"),
        JobState::Cancelled => format!("{what}已取消"),
        JobState::Queued | JobState::Running | JobState::Succeeded => what.to_owned(),
    }
}

/// What a command does to a machine (云服务器). The first two are printed in the document; the others follow them.
const fn words(command: &Command) -> &'static str {
    match command {
        Command::Power(power) => match power.action {
            PowerAction::ForceOff => "云服务器断电",
            PowerAction::Start => "云服务器启动",
            PowerAction::Shutdown => "云服务器关机",
            PowerAction::Reboot => "云服务器重启",
            PowerAction::Reset | PowerAction::ForceReboot => "云服务器强制重启",
            PowerAction::Suspend => "云服务器暂停",
            PowerAction::Resume => "云服务器继续运行",
            PowerAction::Save => "云服务器休眠",
            PowerAction::Restore => "云服务器唤醒",
        },
        Command::CreateVm(create) => match (create.from.is_some(), create.importing) {
            (true, _) => "云服务器克隆",
            (false, true) => "云服务器导入",
            (false, false) => "云服务器创建",
        },
        Command::DeleteVm(_) => "云服务器删除",
        Command::TrashVm(_) => "云服务器移入回收站",
        Command::ChangeVm(_) => "云服务器修改配置",
        Command::Snapshot(job) => match job.action {
            SnapshotAction::Create(_) => "云服务器创建快照",
            SnapshotAction::Revert { .. } => "云服务器恢复快照",
            SnapshotAction::Delete { .. } => "云服务器删除快照",
        },
        Command::Volume(job) => match job.action {
            VolumeAction::Create(_) => "云服务器创建存储卷",
            VolumeAction::Resize { .. } => "云服务器扩容存储卷",
            VolumeAction::Delete { .. } => "云服务器删除存储卷",
        },
        Command::Image(job) => match job.action {
            ImageAction::Copy { .. } => "云服务器导出",
            ImageAction::Fetch { .. } => "云服务器下载镜像",
            ImageAction::Delete { .. } => "云服务器删除镜像",
        },
        Command::MigrateVm(_) => "云服务器迁移",
    }
}
