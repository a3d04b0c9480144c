package rest

import (
	"context"
	"maps"
	"net/http"
	"slices"

	"github.com/cuib/cuib/lxd-like/serverkeys"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/undo"
)

// extensions are what the API offers beyond its first version. Clients take
// the presence of one for a promise. Those of our own begin with cuib.
var extensions = []string{
	"api_filtering",
	"backup_compression",
	"backup_compression_algorithm",
	"backup_override_config",
	"backup_override_name",
	"cloud_init",
	"cloud_init_ssh_keys",
	"console",
	"container_backup",
	"container_backup_override_pool",
	"container_copy_project",
	"container_edit_metadata",
	"container_exec_recording",
	"container_exec_signal_handling",
	"container_exec_user_group_cwd",
	"container_full",
	"container_incremental_copy",
	"container_last_used_at",
	"container_only_migration",
	"cuib_backup_repositories",
	"cuib_console_follow",
	"cuib_dry_run",
	"cuib_image_build",
	"cuib_network_acl_state",
	"cuib_network_doctor",
	"cuib_network_gateways",
	"cuib_network_missing_interfaces",
	"cuib_network_obstacles",
	"cuib_nic_cni",
	"cuib_snapshot_bulk",
	"cuib_snapshot_diff",
	"cuib_snapshot_replace",
	"cuib_snapshot_volumes",
	"cuib_state_io",
	"cuib_state_pressure",
	"cuib_storage_status_message",
	"custom_volume_backup",
	"custom_volume_iso",
	"custom_volume_refresh",
	"custom_volume_refresh_exclude_older_snapshots",
	"custom_volume_sftp",
	"custom_volume_snapshot_expiry",
	"dev_incus_events",
	"dev_incus_images",
	"devlxd_events",
	"devlxd_images",
	"direct_backup",
	"directory_manipulation",
	"etag",
	"event_lifecycle",
	"file_append",
	"file_delete",
	"file_get_symlink",
	"file_symlinks",
	"id_map",
	"import_instance_devices",
	"image_compression_algorithm",
	"image_create_aliases",
	"images_all_projects",
	"images_push_relay",
	"instance_all_projects",
	"instance_allow_inconsistent_copy",
	"instance_bulk_state_change",
	"instance_create_start",
	"instance_get_full",
	"instance_move_config",
	"instance_nic_network",
	"instance_pool_move",
	"instance_project_move",
	"instance_ready_state",
	"instances",
	"instances_rebuild",
	"instances_state_total",
	"kernel_limits",
	"metadata_configuration",
	"network",
	"network_acl",
	"network_acl_log",
	"network_acls_all_projects",
	"network_address_set",
	"network_dns",
	"network_dns_records",
	"network_allocations",
	"network_forward",
	"network_forward_snat",
	"network_leases",
	"network_leases_location",
	"network_load_balancer",
	"network_load_balancer_health_check",
	"network_load_balancer_state",
	"network_peer",
	"network_state",
	"network_zones_all_projects",
	"networks_all_projects",
	"operation_description",
	"operations_get_query_all_projects",
	"patch",
	"profiles_all_projects",
	"project_usage",
	"projects",
	"projects_compression",
	"projects_force_delete",
	"projects_limits",
	"projects_limits_disk",
	"projects_limits_disk_pool",
	"projects_limits_instances",
	"projects_networks_restricted_access",
	"projects_restricted_backups_and_snapshots",
	"projects_restricted_storage_pool_access",
	"projects_restrictions",
	"proxy",
	"proxy_haproxy_protocol",
	"proxy_nat",
	"proxy_tcp_udp_multi_port_handling",
	"proxy_udp",
	"proxy_unix",
	"proxy_unix_dac_properties",
	"resource_cpu_isolated",
	"resources",
	"resources_cpu_core_die",
	"resources_disk_id",
	"resources_disk_sata",
	"resources_load",
	"resources_pci_iommu",
	"resources_system",
	"resources_usb_pci",
	"resources_v2",
	"restrict_dev_incus",
	"restrict_devlxd",
	"snapshot_expiry",
	"snapshot_expiry_creation",
	"snapshot_schedule_aliases",
	"snapshot_scheduling",
	"storage",
	"storage_api_local_volume_handling",
	"storage_api_project",
	"storage_api_volume_rename",
	"storage_api_volume_snapshots",
	"storage_btrfs_mount_options",
	"storage_pool_source_wipe",
	"storage_shifted",
	"storage_unmapped",
	"storage_volatile_initial_source",
	"storage_volume_full",
	"storage_volume_project_move",
	"storage_volume_state",
	"storage_volumes_all",
	"storage_volumes_all_projects",
	"storage_volumes_created_at",
	"unix_device_rename",
	"unix_priv_drop",
	"warnings",
}

func (s *Server) listVersions(*http.Request) (response, error) {
	return synced([]string{"/1.0"}), nil
}

func (s *Server) getServer(r *http.Request) (response, error) {
	config, err := s.Config.Config(r.Context())
	if err != nil {
		return nil, err
	}
	env, err := s.Environment(r.Context())
	if err != nil {
		return nil, err
	}
	env.Project = view(r).Project
	put := api.ServerPut{Config: orEmpty(config)}
	return tagged(api.Server{
		ServerPut:     put,
		APIExtensions: extensions,
		APIStatus:     "stable", APIVersion: "1.0",
		Auth: "trusted", AuthMethods: []string{"tls"},
		AuthUserName: userName(r.Context()), AuthUserMethod: "unix",
		Environment: env,
	}, put)
}

func (s *Server) getResources(*http.Request) (response, error) { return got(s.Resources()) }

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func (s *Server) putServer(r *http.Request) (response, error) {
	body, err := decode[api.ServerPut](r)
	if err != nil {
		return nil, err
	}
	current, err := s.serverConfig(r)
	if err != nil {
		return nil, err
	}
	changes := maps.Clone(body.Config)
	if changes == nil {
		changes = api.ConfigMap{}
	}
	for key := range current {
		if _, ok := changes[key]; !ok {
			changes[key] = "" // What a PUT leaves out is unset.
		}
	}
	return done(s.setConfig(r.Context(), changes))
}

func (s *Server) patchServer(r *http.Request) (response, error) {
	body, err := decode[api.ServerPut](r)
	if err != nil {
		return nil, err
	}
	if _, err := s.serverConfig(r); err != nil {
		return nil, err
	}
	return done(s.setConfig(r.Context(), body.Config))
}

// serverConfig reads the configuration for a change of it.
func (s *Server) serverConfig(r *http.Request) (map[string]string, error) {
	config, err := s.Config.Config(r.Context())
	if err != nil {
		return nil, err
	}
	return config, checkMatch(r, func() (any, error) { return api.ServerPut{Config: orEmpty(config)}, nil })
}

func (s *Server) setConfig(ctx context.Context, changes map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(changes)) {
		if err := serverkeys.Check(key, changes[key]); err != nil {
			return err
		}
	}
	if err := s.keep(ctx, changes); err != nil {
		return err
	}
	s.Events.Lifecycle("config-updated", "/1.0", nil)
	return nil
}

// keep has those follow who are to, and keeps changes of the configuration.
func (s *Server) keep(ctx context.Context, changes map[string]string) (err error) {
	s.follow.Lock()
	defer s.follow.Unlock()
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	old, err := s.Config.Config(ctx)
	if err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(changes)) {
		follow := s.Follow[key]
		if follow == nil || changes[key] == old[key] {
			continue
		}
		if err := follow(ctx, changes[key]); err != nil {
			return err
		}
		u.Push("follow the old "+key, func(ctx context.Context) error { return follow(ctx, old[key]) })
	}
	return s.Config.SetConfig(ctx, changes)
}

// getCluster says that the server is alone.
func (s *Server) getCluster(*http.Request) (response, error) {
	cluster := struct {
		ServerName   string `json:"server_name"`
		Enabled      bool   `json:"enabled"`
		MemberConfig []any  `json:"member_config"`
	}{MemberConfig: []any{}}
	return tagged(cluster, cluster)
}
