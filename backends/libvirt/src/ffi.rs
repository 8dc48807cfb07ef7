//! The only place with `unsafe`: what the `virt` crate does not wrap, or wraps with a defect.
//!
//! Everything here hands out owned Rust values and safe handles:
//!
//! - the process-wide event loop ([`start_event_loop`]), without which libvirt offers neither keep-alive nor events;
//! - event and close callbacks ([`EventConnection`]), which `virt` lacks altogether;
//! - bulk statistics ([`all_domain_stats`]), where `virt` leaks the records and, through them, the connection;
//! - a domain's state ([`domain_state`]), where `virt` forgets to look at the result of the call;
//! - addresses ([`interface_addresses`], [`network_leases`]), where `virt` leaks the records or has no call;
//! - limits of disks and interfaces ([`set_block_io_tune`], [`set_interface_parameters`]) and the end of a long job
//!   ([`abort_job`]), which `virt` lacks;
//! - how far a long job has come ([`job_progress`]), where `virt` reads memory that is gone.
//!
//! Rules that hold for every function below:
//!
//! 1. A pointer taken from a `virt` object is used only while that object is borrowed, so it stays referenced.
//! 2. What libvirt allocates is freed by the matching libvirt function, on every path.
//! 3. A callback never unwinds into C: it runs under `catch_unwind`.
//! 4. A callback copies what it was given; libvirt frees those arguments when it returns.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_ulonglong, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::Error;
use virt::network::Network;
use virt_sys as sys;

use crate::raw::{
    AddressSource, CloseReason, DomainChange, DomainStats, EventSink, GuestInterface, JobProgress, Lease,
    RawEvent, StatValue,
};

static EVENT_LOOP: OnceLock<Result<(), String>> = OnceLock::new();

/// Starts libvirt's default event loop on one thread of its own, once per process.
///
/// Must come before the first connection is opened: a connection opened earlier has neither keep-alive nor events.
/// It also stops libvirt from printing every error on standard error.
///
/// # Errors
/// A sentence when libvirt refuses its event loop or no thread can be started; the same answer for every later call.
pub fn start_event_loop() -> Result<(), String> {
    EVENT_LOOP
        .get_or_init(|| {
            virt::error::clear_error_callback();
            virt::event::event_register_default_impl()
                .map_err(|e| format!("libvirt refused its event loop: {e}"))?;
            // A timer that never fires keeps the loop's poll from spinning on an empty set.
            // SAFETY: the callback takes no state and the free callback is absent, so nothing dangles.
            unsafe { sys::virEventAddTimeout(-1, Some(idle_timer), std::ptr::null_mut(), None) };
            std::thread::Builder::new()
                .name("libvirt-events".into())
                .spawn(|| {
                    loop {
                        if let Err(error) = virt::event::event_run_default_impl() {
                            tracing::error!(%error, "libvirt's event loop failed; it is tried again");
                            std::thread::sleep(std::time::Duration::from_millis(100));
                        }
                    }
                })
                .map_err(|e| format!("no thread for libvirt's event loop: {e}"))?;
            Ok(())
        })
        .clone()
}

unsafe extern "C" fn idle_timer(_timer: c_int, _opaque: *mut c_void) {}

/// What a callback gets as its opaque pointer: one heap allocation per registration, freed by `free_context`.
struct Context {
    sink: EventSink,
}

/// Runs `build` and hands its event to the sink. Never unwinds.
///
/// # Safety
/// `opaque` must be a live pointer made by `leak_context`.
unsafe fn deliver(opaque: *mut c_void, build: impl FnOnce() -> Option<RawEvent>) {
    // SAFETY: libvirt gives back the pointer that was registered and frees it only after the last callback.
    let context = unsafe { &*opaque.cast::<Context>() };
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        if let Some(event) = build() {
            (context.sink)(event);
        }
    }));
    if outcome.is_err() {
        tracing::error!("a libvirt event could not be delivered: the receiver panicked");
    }
}

fn leak_context(sink: &EventSink) -> *mut c_void {
    Box::into_raw(Box::new(Context {
        sink: Arc::clone(sink),
    }))
    .cast()
}

unsafe extern "C" fn free_context(opaque: *mut c_void) {
    // SAFETY: called exactly once per registration, with the pointer made by `leak_context`.
    drop(unsafe { Box::from_raw(opaque.cast::<Context>()) });
}

/// # Safety
/// `text` must be null or a NUL-terminated string that lives during the call.
unsafe fn owned(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: see above.
    Some(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

/// # Safety
/// `domain` must be a live domain pointer.
unsafe fn domain_uuid(domain: sys::virDomainPtr) -> Option<Uuid> {
    let mut bytes = [0_u8; 16];
    // SAFETY: libvirt writes exactly VIR_UUID_BUFLEN (16) bytes.
    let result = unsafe { sys::virDomainGetUUID(domain, bytes.as_mut_ptr()) };
    (result == 0).then(|| Uuid::from_bytes(bytes))
}

/// # Safety
/// `domain` and `opaque` come from a libvirt callback that is being served.
unsafe fn deliver_domain(domain: sys::virDomainPtr, opaque: *mut c_void, change: DomainChange) {
    // SAFETY: both pointers are live for the duration of the callback; names and ids are copied.
    unsafe {
        deliver(opaque, || {
            let uuid = domain_uuid(domain)?;
            let name = owned(sys::virDomainGetName(domain)).unwrap_or_default();
            Some(RawEvent::Domain { uuid, name, change })
        });
    }
}

/// Declares a domain callback: its extra C arguments and the change they become.
macro_rules! domain_callback {
    ($name:ident ( $($arg:ident : $ty:ty),* ) $(-> $ret:ty = $value:expr)? => $change:expr) => {
        unsafe extern "C" fn $name(
            _connection: sys::virConnectPtr,
            domain: sys::virDomainPtr,
            $($arg: $ty,)*
            opaque: *mut c_void,
        ) $(-> $ret)? {
            // SAFETY: called by libvirt with live arguments, which are copied before it returns.
            unsafe { deliver_domain(domain, opaque, $change) };
            $($value)?
        }
    };
}

domain_callback!(on_lifecycle(event: c_int, detail: c_int) -> c_int = 0
    => DomainChange::Lifecycle { event, detail });
domain_callback!(on_reboot() => DomainChange::Rebooted);
domain_callback!(on_removed(alias: *const c_char)
    => DomainChange::DeviceRemoved { alias: owned(alias).unwrap_or_default() });
domain_callback!(on_removal_failed(alias: *const c_char)
    => DomainChange::DeviceRemovalFailed { alias: owned(alias).unwrap_or_default() });
domain_callback!(on_added(alias: *const c_char)
    => DomainChange::DeviceAdded { alias: owned(alias).unwrap_or_default() });
domain_callback!(on_agent(state: c_int, _reason: c_int)
=> DomainChange::Agent {
    connected: state == sys::VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED as c_int,
});
domain_callback!(on_balloon(kib: c_ulonglong)
    => DomainChange::Balloon { bytes: (kib as u64).saturating_mul(1024) });
domain_callback!(on_job(_params: sys::virTypedParameterPtr, _count: c_int) => DomainChange::JobCompleted);
domain_callback!(on_metadata(_kind: c_int, uri: *const c_char)
    => DomainChange::Metadata { namespace: owned(uri) });
domain_callback!(on_tray(alias: *const c_char, reason: c_int)
=> DomainChange::Tray {
    alias: owned(alias).unwrap_or_default(),
    open: reason == sys::VIR_DOMAIN_EVENT_TRAY_CHANGE_OPEN as c_int,
});
domain_callback!(on_pm_suspend(_reason: c_int) => DomainChange::SuspendedByGuest);
domain_callback!(on_pm_wakeup(_reason: c_int) => DomainChange::WokenUp);
domain_callback!(on_block_job(disk: *const c_char, _kind: c_int, status: c_int)
    => DomainChange::BlockJob { disk: owned(disk).unwrap_or_default(), status });

unsafe extern "C" fn on_pool(
    _connection: sys::virConnectPtr,
    pool: sys::virStoragePoolPtr,
    _event: c_int,
    _detail: c_int,
    opaque: *mut c_void,
) {
    // SAFETY: called by libvirt with live arguments.
    unsafe {
        deliver(opaque, || {
            Some(RawEvent::Pool {
                name: owned(sys::virStoragePoolGetName(pool))?,
            })
        })
    };
}

unsafe extern "C" fn on_network(
    _connection: sys::virConnectPtr,
    network: sys::virNetworkPtr,
    _event: c_int,
    _detail: c_int,
    opaque: *mut c_void,
) {
    // SAFETY: called by libvirt with live arguments.
    unsafe {
        deliver(opaque, || {
            Some(RawEvent::Network {
                name: owned(sys::virNetworkGetName(network))?,
            })
        })
    };
}

unsafe extern "C" fn on_close(_connection: sys::virConnectPtr, reason: c_int, opaque: *mut c_void) {
    let reason = match u32::try_from(reason) {
        Ok(sys::VIR_CONNECT_CLOSE_REASON_ERROR) => CloseReason::Error,
        Ok(sys::VIR_CONNECT_CLOSE_REASON_EOF) => CloseReason::Eof,
        Ok(sys::VIR_CONNECT_CLOSE_REASON_KEEPALIVE) => CloseReason::KeepAlive,
        Ok(sys::VIR_CONNECT_CLOSE_REASON_CLIENT) => CloseReason::Client,
        _ => CloseReason::Other,
    };
    // SAFETY: called by libvirt with the registered pointer.
    unsafe { deliver(opaque, || Some(RawEvent::Closed(reason))) };
}

enum Registration {
    Domain(c_int),
    Pool(c_int),
    Network(c_int),
    Close,
}

/// A connection that exists to receive events. Dropping it takes every callback back before it closes: without
/// that even a dead connection is never freed.
pub struct EventConnection {
    connection: Connect,
    registrations: Vec<Registration>,
}

impl std::fmt::Debug for EventConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventConnection")
            .field("callbacks", &self.registrations.len())
            .finish_non_exhaustive()
    }
}

impl EventConnection {
    /// Subscribes `sink` to everything the gateway wants to hear on this connection.
    ///
    /// Needs [`start_event_loop`] before the connection was opened. Every kind of event is taken where the driver
    /// offers it; some drivers offer none.
    ///
    /// # Errors
    /// libvirt's error when lifecycle events are offered but refused.
    pub fn subscribe(connection: Connect, sink: &EventSink) -> Result<EventConnection, Error> {
        let mut this = EventConnection {
            connection,
            registrations: Vec::new(),
        };
        // SAFETY: the generic callback type only erases the extra arguments; libvirt calls each function with the
        // signature that belongs to its event id, and the ids below are paired with exactly those signatures.
        unsafe {
            use std::mem::transmute as erase;
            type Generic = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void);
            type OneText =
                unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *const c_char, *mut c_void);
            type TwoInts =
                unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void);
            type OneInt = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, *mut c_void);
            let lifecycle = erase::<
                unsafe extern "C" fn(
                    sys::virConnectPtr,
                    sys::virDomainPtr,
                    c_int,
                    c_int,
                    *mut c_void,
                ) -> c_int,
                Generic,
            >(on_lifecycle);
            match this.domain_event(sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle, sink) {
                Err(error) if error.code().to_raw() == sys::VIR_ERR_NO_SUPPORT => {
                    tracing::warn!("this driver has no events; changes are seen at the next reconciliation");
                }
                other => other?,
            }
            let optional: [(sys::virDomainEventID, Generic); 12] = [
                (sys::VIR_DOMAIN_EVENT_ID_REBOOT, on_reboot),
                (
                    sys::VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
                    erase::<OneText, Generic>(on_removed),
                ),
                (
                    sys::VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED,
                    erase::<OneText, Generic>(on_removal_failed),
                ),
                (
                    sys::VIR_DOMAIN_EVENT_ID_DEVICE_ADDED,
                    erase::<OneText, Generic>(on_added),
                ),
                (
                    sys::VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE,
                    erase::<TwoInts, Generic>(on_agent),
                ),
                (
                    sys::VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE,
                    erase::<
                        unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_ulonglong, *mut c_void),
                        Generic,
                    >(on_balloon),
                ),
                (
                    sys::VIR_DOMAIN_EVENT_ID_JOB_COMPLETED,
                    erase::<
                        unsafe extern "C" fn(
                            sys::virConnectPtr,
                            sys::virDomainPtr,
                            sys::virTypedParameterPtr,
                            c_int,
                            *mut c_void,
                        ),
                        Generic,
                    >(on_job),
                ),
                (
                    sys::VIR_DOMAIN_EVENT_ID_METADATA_CHANGE,
                    erase::<
                        unsafe extern "C" fn(
                            sys::virConnectPtr,
                            sys::virDomainPtr,
                            c_int,
                            *const c_char,
                            *mut c_void,
                        ),
                        Generic,
                    >(on_metadata),
                ),
                (
                    sys::VIR_DOMAIN_EVENT_ID_TRAY_CHANGE,
                    erase::<
                        unsafe extern "C" fn(
                            sys::virConnectPtr,
                            sys::virDomainPtr,
                            *const c_char,
                            c_int,
                            *mut c_void,
                        ),
                        Generic,
                    >(on_tray),
                ),
                (
                    sys::VIR_DOMAIN_EVENT_ID_PMSUSPEND,
                    erase::<OneInt, Generic>(on_pm_suspend),
                ),
                (
                    sys::VIR_DOMAIN_EVENT_ID_PMWAKEUP,
                    erase::<OneInt, Generic>(on_pm_wakeup),
                ),
                (
                    sys::VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2,
                    erase::<
                        unsafe extern "C" fn(
                            sys::virConnectPtr,
                            sys::virDomainPtr,
                            *const c_char,
                            c_int,
                            c_int,
                            *mut c_void,
                        ),
                        Generic,
                    >(on_block_job),
                ),
            ];
            for (id, callback) in optional {
                if let Err(error) = this.domain_event(id, callback, sink) {
                    tracing::debug!(id, %error, "this driver does not offer a kind of domain event");
                }
            }
        }
        this.pool_events(sink);
        this.network_events(sink);
        // libvirt's in-process test driver never closes by itself, and 9.0 forgets to free this callback's context.
        if !this.connection.uri().is_ok_and(|uri| uri.starts_with("test://")) {
            this.close_event(sink);
        }
        Ok(this)
    }

    /// The connection itself, for `is_alive` and the like. It must not be used for calls that can block.
    pub fn connection(&self) -> &Connect {
        &self.connection
    }

    /// # Safety
    /// `callback` must have the signature that libvirt documents for `id`.
    unsafe fn domain_event(
        &mut self,
        id: sys::virDomainEventID,
        callback: unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void),
        sink: &EventSink,
    ) -> Result<(), Error> {
        let context = leak_context(sink);
        // SAFETY: the connection is live; a null domain means all domains; the context outlives the registration.
        let handle = unsafe {
            sys::virConnectDomainEventRegisterAny(
                self.connection.as_ptr(),
                std::ptr::null_mut(),
                id as c_int,
                Some(callback),
                context,
                Some(free_context),
            )
        };
        if handle < 0 {
            let error = Error::last_error();
            // SAFETY: libvirt does not free the context of a registration that it refused.
            unsafe { free_context(context) };
            return Err(error);
        }
        self.registrations.push(Registration::Domain(handle));
        Ok(())
    }

    fn pool_events(&mut self, sink: &EventSink) {
        let context = leak_context(sink);
        // SAFETY: as in `domain_event`; the lifecycle id is paired with the lifecycle signature.
        let handle = unsafe {
            let callback = std::mem::transmute::<
                unsafe extern "C" fn(sys::virConnectPtr, sys::virStoragePoolPtr, c_int, c_int, *mut c_void),
                unsafe extern "C" fn(sys::virConnectPtr, sys::virStoragePoolPtr, *mut c_void),
            >(on_pool);
            sys::virConnectStoragePoolEventRegisterAny(
                self.connection.as_ptr(),
                std::ptr::null_mut(),
                sys::VIR_STORAGE_POOL_EVENT_ID_LIFECYCLE as c_int,
                Some(callback),
                context,
                Some(free_context),
            )
        };
        self.keep_or_free(handle, context, Registration::Pool);
    }

    fn network_events(&mut self, sink: &EventSink) {
        let context = leak_context(sink);
        // SAFETY: as in `pool_events`.
        let handle = unsafe {
            let callback = std::mem::transmute::<
                unsafe extern "C" fn(sys::virConnectPtr, sys::virNetworkPtr, c_int, c_int, *mut c_void),
                unsafe extern "C" fn(sys::virConnectPtr, sys::virNetworkPtr, *mut c_void),
            >(on_network);
            sys::virConnectNetworkEventRegisterAny(
                self.connection.as_ptr(),
                std::ptr::null_mut(),
                sys::VIR_NETWORK_EVENT_ID_LIFECYCLE as c_int,
                Some(callback),
                context,
                Some(free_context),
            )
        };
        self.keep_or_free(handle, context, Registration::Network);
    }

    fn close_event(&mut self, sink: &EventSink) {
        let context = leak_context(sink);
        // SAFETY: the connection is live; the context is freed by libvirt after unregistration.
        let handle = unsafe {
            sys::virConnectRegisterCloseCallback(
                self.connection.as_ptr(),
                Some(on_close),
                context,
                Some(free_context),
            )
        };
        self.keep_or_free(handle, context, |_| Registration::Close);
    }

    fn keep_or_free(
        &mut self,
        handle: c_int,
        context: *mut c_void,
        make: impl FnOnce(c_int) -> Registration,
    ) {
        if handle < 0 {
            tracing::debug!(error = %Error::last_error(), "this driver does not offer a kind of event");
            // SAFETY: libvirt does not free the context of a registration that it refused.
            unsafe { free_context(context) };
        } else {
            self.registrations.push(make(handle));
        }
    }
}

impl Drop for EventConnection {
    fn drop(&mut self) {
        for registration in self.registrations.drain(..) {
            // SAFETY: the connection is still held; each handle is given back once. A refusal (the daemon is gone)
            // is of no interest: libvirt has forgotten the callback locally by then.
            unsafe {
                let connection = self.connection.as_ptr();
                match registration {
                    Registration::Domain(id) => sys::virConnectDomainEventDeregisterAny(connection, id),
                    Registration::Pool(id) => sys::virConnectStoragePoolEventDeregisterAny(connection, id),
                    Registration::Network(id) => sys::virConnectNetworkEventDeregisterAny(connection, id),
                    Registration::Close => sys::virConnectUnregisterCloseCallback(connection, Some(on_close)),
                };
            }
        }
    }
}

/// Statistics of all domains in one call. `groups` is a mask of `VIR_DOMAIN_STATS_*`, `flags` of
/// `VIR_CONNECT_GET_ALL_DOMAINS_STATS_*`.
///
/// # Errors
/// libvirt's error. One reply carries at most 16,384 domains.
pub fn all_domain_stats(connection: &Connect, groups: u32, flags: u32) -> Result<Vec<DomainStats>, Error> {
    let mut records: *mut sys::virDomainStatsRecordPtr = std::ptr::null_mut();
    // SAFETY: the connection is borrowed; libvirt fills `records` with an array that is freed below.
    let count = unsafe { sys::virConnectGetAllDomainStats(connection.as_ptr(), groups, &mut records, flags) };
    let Ok(count) = usize::try_from(count) else {
        return Err(Error::last_error());
    };
    let mut out = Vec::with_capacity(count);
    for i in 0..count {
        // SAFETY: the array has `count` valid record pointers; each holds `nparams` parameters.
        unsafe {
            let record = &**records.add(i);
            let Some(uuid) = domain_uuid(record.dom) else {
                continue;
            };
            let params = usize::try_from(record.nparams).unwrap_or(0);
            let values = (0..params)
                .filter_map(|p| typed_value(&*record.params.add(p)))
                .collect();
            out.push(DomainStats { uuid, values });
        }
    }
    if !records.is_null() {
        // SAFETY: the list came from virConnectGetAllDomainStats and is freed once; it also drops the domain and
        // connection references that the records hold.
        unsafe { sys::virDomainStatsRecordListFree(records) };
    }
    Ok(out)
}

/// # Safety
/// `param` must be a parameter that libvirt filled.
unsafe fn typed_value(param: &sys::virTypedParameter) -> Option<(String, StatValue)> {
    // SAFETY: the field is a NUL-terminated name; the type says which member of the union is set.
    unsafe {
        let name = owned(param.field.as_ptr())?;
        let value = match u32::try_from(param.type_).ok()? {
            sys::VIR_TYPED_PARAM_INT => StatValue::Int(i64::from(param.value.i)),
            sys::VIR_TYPED_PARAM_UINT => StatValue::Unsigned(u64::from(param.value.ui)),
            sys::VIR_TYPED_PARAM_LLONG => StatValue::Int(param.value.l),
            sys::VIR_TYPED_PARAM_ULLONG => StatValue::Unsigned(param.value.ul),
            sys::VIR_TYPED_PARAM_DOUBLE => StatValue::Float(param.value.d),
            sys::VIR_TYPED_PARAM_BOOLEAN => StatValue::Bool(param.value.b != 0),
            sys::VIR_TYPED_PARAM_STRING => StatValue::Text(owned(param.value.s)?),
            _ => return None,
        };
        Some((name, value))
    }
}

/// A domain's state and reason as libvirt's numbers (`virDomainState`, and the reason that belongs to it).
///
/// # Errors
/// libvirt's error, for example 42 when the domain is gone.
pub fn domain_state(domain: &Domain) -> Result<(u32, i32), Error> {
    let (mut state, mut reason): (c_int, c_int) = (0, 0);
    // SAFETY: the domain is borrowed and both out-pointers are valid.
    let result = unsafe { sys::virDomainGetState(domain.as_ptr(), &mut state, &mut reason, 0) };
    if result < 0 {
        return Err(Error::last_error());
    }
    Ok((u32::try_from(state).unwrap_or(0), reason))
}

/// The addresses of a guest.
///
/// # Errors
/// libvirt's error: 86 when no agent answers, 3 where the driver cannot.
pub fn interface_addresses(domain: &Domain, source: AddressSource) -> Result<Vec<GuestInterface>, Error> {
    let source = match source {
        AddressSource::Lease => sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE,
        AddressSource::Agent => sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT,
    };
    let mut interfaces: *mut sys::virDomainInterfacePtr = std::ptr::null_mut();
    // SAFETY: the domain is borrowed; libvirt fills `interfaces` with an array that is freed below.
    let count = unsafe { sys::virDomainInterfaceAddresses(domain.as_ptr(), &mut interfaces, source, 0) };
    let Ok(count) = usize::try_from(count) else {
        return Err(Error::last_error());
    };
    let mut out = Vec::with_capacity(count);
    for i in 0..count {
        // SAFETY: the array has `count` valid entries; each is copied, then freed with all it holds.
        unsafe {
            let pointer = *interfaces.add(i);
            let interface = &*pointer;
            let addresses = (0..interface.naddrs as usize)
                .filter_map(|a| {
                    let address = &*interface.addrs.add(a);
                    Some((owned(address.addr)?, address.prefix))
                })
                .collect();
            out.push(GuestInterface {
                name: owned(interface.name).unwrap_or_default(),
                mac: owned(interface.hwaddr),
                addresses,
            });
            sys::virDomainInterfaceFree(pointer);
        }
    }
    if !interfaces.is_null() {
        // SAFETY: the array itself is plain malloc memory according to the documentation of the call.
        unsafe { libc::free(interfaces.cast()) };
    }
    Ok(out)
}

/// The addresses that a network's DHCP server has given away.
///
/// # Errors
/// libvirt's error: 3 where the driver cannot.
pub fn network_leases(network: &Network) -> Result<Vec<Lease>, Error> {
    let mut leases: *mut sys::virNetworkDHCPLeasePtr = std::ptr::null_mut();
    // SAFETY: the network is borrowed; no MAC address means all leases; libvirt fills `leases` with an array that is
    // freed below.
    let count = unsafe { sys::virNetworkGetDHCPLeases(network.as_ptr(), std::ptr::null(), &mut leases, 0) };
    let Ok(count) = usize::try_from(count) else {
        return Err(Error::last_error());
    };
    let mut out = Vec::with_capacity(count);
    for i in 0..count {
        // SAFETY: the array has `count` valid entries; each is copied, then freed with all it holds.
        unsafe {
            let pointer = *leases.add(i);
            let lease = &*pointer;
            if let (Some(mac), Some(address)) = (owned(lease.mac), owned(lease.ipaddr)) {
                out.push(Lease {
                    mac: mac.to_ascii_lowercase(),
                    address,
                    prefix: lease.prefix,
                });
            }
            sys::virNetworkDHCPLeaseFree(pointer);
        }
    }
    if !leases.is_null() {
        // SAFETY: the array itself is plain malloc memory according to the documentation of the call.
        unsafe { libc::free(leases.cast()) };
    }
    Ok(out)
}

/// An array of typed parameters, freed with what it holds.
struct Parameters {
    array: sys::virTypedParameterPtr,
    used: c_int,
    room: c_int,
}

impl Parameters {
    fn new() -> Parameters {
        Parameters {
            array: std::ptr::null_mut(),
            used: 0,
            room: 0,
        }
    }

    fn long(&mut self, name: &str, value: u64) -> Result<(), Error> {
        let name = CString::new(name)?;
        // SAFETY: libvirt grows the array and keeps both counts; the name is copied.
        let result = unsafe {
            sys::virTypedParamsAddULLong(
                &mut self.array,
                &mut self.used,
                &mut self.room,
                name.as_ptr(),
                value,
            )
        };
        checked(result)
    }

    fn int(&mut self, name: &str, value: u32) -> Result<(), Error> {
        let name = CString::new(name)?;
        // SAFETY: as in `long`.
        let result = unsafe {
            sys::virTypedParamsAddUInt(
                &mut self.array,
                &mut self.used,
                &mut self.room,
                name.as_ptr(),
                value,
            )
        };
        checked(result)
    }
}

impl Drop for Parameters {
    fn drop(&mut self) {
        // SAFETY: the array came from libvirt's own allocation with that many entries, or is null.
        unsafe { sys::virTypedParamsFree(self.array, self.used) };
    }
}

fn checked(result: c_int) -> Result<(), Error> {
    if result < 0 {
        return Err(Error::last_error());
    }
    Ok(())
}

/// Sets the throughput limits of a disk. `limits` are libvirt's field names (`total_bytes_sec` …), `flags` a mask of
/// `VIR_DOMAIN_AFFECT_*`.
///
/// # Errors
/// libvirt's error.
pub fn set_block_io_tune(
    domain: &Domain,
    disk: &str,
    limits: &[(String, u64)],
    flags: u32,
) -> Result<(), Error> {
    let disk = CString::new(disk)?;
    let mut params = Parameters::new();
    for (name, value) in limits {
        params.long(name, *value)?;
    }
    // SAFETY: the domain is borrowed; name and parameters live during the call, which copies them.
    let result = unsafe {
        sys::virDomainSetBlockIoTune(
            domain.as_ptr(),
            disk.as_ptr(),
            params.array,
            params.used,
            flags as c_uint,
        )
    };
    checked(result)
}

/// Sets the throughput limits of an interface, named by its MAC address. `limits` are libvirt's field names
/// (`inbound.average` …, in KiB), `flags` a mask of `VIR_DOMAIN_AFFECT_*`.
///
/// # Errors
/// libvirt's error.
pub fn set_interface_parameters(
    domain: &Domain,
    mac: &str,
    limits: &[(String, u32)],
    flags: u32,
) -> Result<(), Error> {
    let mac = CString::new(mac)?;
    let mut params = Parameters::new();
    for (name, value) in limits {
        params.int(name, *value)?;
    }
    // SAFETY: as in `set_block_io_tune`.
    let result = unsafe {
        sys::virDomainSetInterfaceParameters(
            domain.as_ptr(),
            mac.as_ptr(),
            params.array,
            params.used,
            flags as c_uint,
        )
    };
    checked(result)
}

/// Ends the domain's long job (save, migration) without its result.
///
/// # Errors
/// libvirt's error: 55 when there is none.
pub fn abort_job(domain: &Domain) -> Result<(), Error> {
    // SAFETY: the domain is borrowed.
    checked(unsafe { sys::virDomainAbortJob(domain.as_ptr()) })
}

/// How far a domain's long job (save, migration) has come.
///
/// # Errors
/// libvirt's error.
pub fn job_progress(domain: &Domain) -> Result<JobProgress, Error> {
    // SAFETY: a structure of plain numbers, for which all zeros is a value; libvirt fills it during the call.
    let info = unsafe {
        let mut info: sys::virDomainJobInfo = std::mem::zeroed();
        checked(sys::virDomainGetJobInfo(domain.as_ptr(), &mut info))?;
        info
    };
    let running = matches!(
        u32::try_from(info.type_),
        Ok(sys::VIR_DOMAIN_JOB_BOUNDED | sys::VIR_DOMAIN_JOB_UNBOUNDED)
    );
    Ok(JobProgress {
        running,
        total: info.dataTotal as u64,
        remaining: info.dataRemaining as u64,
    })
}
