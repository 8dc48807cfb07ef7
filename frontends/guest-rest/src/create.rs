//! Creation: one call, one or several guests of one configuration, all or none of them accepted.

use std::sync::Arc;

use babelvisor_core::command::{Command, DeleteVm};
use babelvisor_core::frontend::Request;
use babelvisor_core::layers::{ConsoleChoice, CreateRequest, GuestLogin, Root, SubmitOptions};
use babelvisor_core::model::{Caller, Image, ImageKind, Vm};
use babelvisor_core::query;
use babelvisor_core::secret::Secret;
use babelvisor_schemas::{Operation, Remarks};

use crate::GuestRest;
use crate::decode::{self, Creation};
use crate::error::{Fault, Outcome};
use crate::names;

/// Letters and digits of a random password for the guest's administrator.
const PASSWORD_LENGTH: usize = 16;
/// Letters and digits of the console password. The original makes 16, of which the VNC protocol has only ever used
/// the first eight; today's libvirt refuses more than these.
const VNC_PASSWORD_LENGTH: usize = 8;
const GIB: u64 = 1 << 30;

impl GuestRest {
    pub(crate) async fn create(
        &self,
        operation: &Operation,
        caller: &Caller,
        request: &Request,
        remarks: &mut Remarks<'_>,
    ) -> Outcome {
        let body = decode::body(request)?;
        let wish = decode::creation(operation, &body, &self.settings)?;
        let now = self.core.now();
        let image = u64::try_from(wish.os_template_id)
            .ok()
            .and_then(|number| now.images_by_number.get(&number));
        let image =
            image.filter(|image| image.kind == ImageKind::Disk && query::may_use_image(caller, image));
        let image = image.cloned();
        let image = image.ok_or_else(|| Fault::no_template(wish.os_template_id))?;
        let disk = u64::from(self.settings.root_disk_gib) * GIB;
        self.core.fits(&image, wish.quantity, wish.memory * GIB, disk)?;
        let wanted = names::wanted(&wish.name, wish.quantity);
        let held = self
            .names
            .hold(&self.core, caller, wanted, self.settings.name_conflict)?;

        let mut made: Vec<Arc<Vm>> = Vec::with_capacity(held.names.len());
        for name in &held.names {
            let request = self.request(&wish, name, &image, disk);
            match self.core.create_vm(caller, request, SubmitOptions::QUEUE).await {
                Ok((vm, _job)) => made.push(vm),
                Err(error) => {
                    self.take_back(caller, &made).await;
                    return Err(error.into());
                }
            }
        }
        if self.settings.leases_enforced {
            remarks.settle("body.lease_term");
        }
        // All guests of a call are of one image, and so on one kind of backend.
        let home = made.first().map(|vm| &vm.record.backend);
        if let Some(backend) = home.and_then(|id| self.core.backends().get(id)) {
            remarks.on(backend.kind());
        }
        Ok(self.encoder.many(&self.core.now(), made.iter(), None))
    }

    fn request(&self, wish: &Creation, name: &str, image: &Arc<Image>, disk: u64) -> CreateRequest {
        let password = if wish.password.is_empty() {
            Secret::random(PASSWORD_LENGTH)
        } else {
            Secret::new(&wish.password)
        };
        CreateRequest {
            name: name.to_owned(),
            vcpus: wish.cpu,
            memory: wish.memory * GIB,
            disk,
            root: Root::Image(image.clone()),
            login: Some(GuestLogin {
                user: self.settings.admin_user.clone(),
                password,
            }),
            console: ConsoleChoice::Password(Secret::random(VNC_PASSWORD_LENGTH)),
            start: true,
            lease_term: Some(wish.lease_term),
            ..CreateRequest::default()
        }
    }

    /// Deletes the guests of a call of which a later one was refused.
    async fn take_back(&self, caller: &Caller, made: &[Arc<Vm>]) {
        for vm in made {
            let command = Command::DeleteVm(DeleteVm {
                vm: vm.id,
                volumes: true,
                keep_data_volumes: false,
            });
            if let Err(error) = self.core.submit(caller, command, SubmitOptions::BLIND).await {
                tracing::error!(vm = %vm.id, %error, "a guest of a refused call could not be taken back");
            }
        }
    }
}
