//! The paths of the API.

/// `GET`: [`crate::Status`].
pub const STATUS: &str = "/v1/status";
/// `GET`: [`crate::ClusterView`].
pub const CLUSTER: &str = "/v1/cluster";
/// `GET`: [`crate::Why`].
pub const WHY: &str = "/v1/cluster/why";
/// `POST` [`crate::FailoverRequest`]: [`crate::FailoverView`], when the failover is over.
pub const FAILOVER: &str = "/v1/cluster/failover";
/// `POST` [`crate::MaintenanceRequest`]: [`crate::FailoverView`].
pub const MAINTENANCE: &str = "/v1/cluster/maintenance";
/// `GET`: [`crate::SessionsView`]; `DELETE`: [`crate::Cleared`]. Both take a
/// [`crate::SessionFilter`] as query.
pub const SESSIONS: &str = "/v1/sessions";
/// `GET`: list of [`crate::InterfaceView`].
pub const INTERFACES: &str = "/v1/interfaces";
/// `GET`: list of [`crate::NeighbourView`].
pub const NEIGHBOURS: &str = "/v1/neighbours";
/// `GET`: list of [`crate::RouteView`].
pub const ROUTES: &str = "/v1/routes";
/// `GET`: list of [`crate::PolicyView`].
pub const POLICIES: &str = "/v1/policies";
/// `GET`: list of [`crate::CounterView`].
pub const COUNTERS: &str = "/v1/counters";
/// `GET`: list of [`crate::EventView`].
pub const EVENTS: &str = "/v1/events";
/// `GET`: [`crate::SyncView`].
pub const SYNC: &str = "/v1/sync";
/// `GET`: [`crate::ConfigView`].
pub const CONFIG: &str = "/v1/config";
/// `POST`: [`crate::ReloadResult`].
pub const RELOAD: &str = "/v1/config/reload";
/// `GET`: Prometheus text.
pub const METRICS: &str = "/metrics";
