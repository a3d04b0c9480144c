package configure

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

var profileColumns = []output.Column[api.Profile]{
	{Key: 'n', Name: "NAME", Value: func(p api.Profile) string { return p.Name }},
	{Key: 'd', Name: "DESCRIPTION", Value: func(p api.Profile) string { return p.Description }},
	{Key: 'u', Name: "USED BY", Value: func(p api.Profile) string { return kit.Count(p.UsedBy) }},
	{Key: 'e', Name: "PROJECT", Value: func(p api.Profile) string { return p.Project }},
}

func newProfile(e *env) *cobra.Command {
	return kit.Group("profile", "Manage profiles: configuration that instances share",
		"  cuib profile create small\n  cuib profile set small limits.memory=512MiB\n  cuib profile add web small",
		newProfileAdd(e), newProfileAssign(e), newProfileCopy(e), newProfileCreate(e), newProfileDelete(e),
		newDevice(e, profileDeviceOwner(e)), kit.NewEdit(e.Env, profileKind(e)), kit.NewKeyGet(e.Env, profileKind(e)), newProfileList(e),
		newProfileRemove(e), newProfileRename(e), kit.NewKeySet(e.Env, profileKind(e)), kit.NewShow(e.Env, profileKind(e)), kit.NewKeyUnset(e.Env, profileKind(e)),
	)
}

func profileKind(e *env) kit.Kind[api.Profile, api.ProfilePut] {
	return kit.Kind[api.Profile, api.ProfilePut]{
		Command: "profile", What: "a profile", Arg: "PROFILE", Pair: "default limits.memory=1GiB", Names: kit.Profiles, Keys: kit.ProfileKeys, All: kit.InstanceSettings,
		Read: e.Client().Profile, Update: e.Client().UpdateProfile, Preview: e.Client().PreviewProfile,
		Put:    func(p *api.Profile) *api.ProfilePut { return &p.ProfilePut },
		Config: func(p *api.ProfilePut) *api.ConfigMap { return &p.Config },
	}
}

func newProfileCreate(e *env) *cobra.Command {
	var description string
	cmd := &cobra.Command{
		Use: "create PROFILE", Short: "Create a profile",
		Long:    "Create a profile. YAML on the standard input, in the form that \"cuib profile\nshow\" has, is what is in it.",
		Example: "  cuib profile create small\n  cuib profile create small < small.yaml",
		Args:    kit.Needs(1, 1), ValidArgsFunction: e.Complete(kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			req := api.ProfilesPost{Name: args[0]}
			if err := kit.CreateConfig[api.Profile](e.Env, nil, &req.ProfilePut, &req.Config); err != nil {
				return err
			}
			if description != "" {
				req.Description = description
			}
			if err := e.Client().CreateProfile(cmd.Context(), req); err != nil {
				return err
			}
			e.Say("Profile %s created", args[0])
			return nil
		}),
	}
	cmd.Flags().StringVar(&description, "description", "", "text that describes the profile")
	return cmd
}

func newProfileCopy(e *env) *cobra.Command {
	var refresh bool
	var to kit.Target
	cmd := &cobra.Command{
		Use: "copy PROFILE NAME", Aliases: []string{"cp"}, Short: "Copy a profile, also to another project",
		Example: "  cuib profile copy small smaller\n  cuib profile copy small base --target-project lab",
		Args:    kit.Needs(2, 2), ValidArgsFunction: e.Complete(kit.Profiles, kit.None),
		RunE: kit.Named(-1, func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			p, _, err := e.Client().Profile(ctx, args[0])
			if err != nil {
				return err
			}
			err = to.Client(e.Env).CreateProfile(ctx, api.ProfilesPost{ProfilePut: p.ProfilePut, Name: args[1]})
			if refresh && errs.Is(err, errs.Conflict) {
				return to.Client(e.Env).UpdateProfile(ctx, args[1], p.ProfilePut, "")
			}
			return err
		}),
	}
	cmd.Flags().BoolVar(&refresh, "refresh", false, "replace a profile of that name")
	to.Flag(e.Env, cmd)
	return cmd
}

func newProfileDelete(e *env) *cobra.Command {
	return e.DeleteCommand("Profile", kit.Use("PROFILE", "profiles", "  cuib profile delete small"), kit.Profiles,
		e.Client().DeleteProfile)
}

func newProfileRename(e *env) *cobra.Command {
	return e.RenameCommand(kit.Use("PROFILE", "a profile", "  cuib profile rename small tiny"), kit.Profiles, e.Client().RenameProfile)
}

func newProfileList(e *env) *cobra.Command {
	return kit.ListCommand(e.Env, kit.Lister[api.Profile]{
		What: "profiles", Columns: profileColumns, Usual: "ndu", Example: "  cuib profile list",
		Read: (*client.Client).Profiles,
	})
}

func newProfileAssign(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "assign INSTANCE PROFILE,...", Aliases: []string{"apply"}, Short: "Give an instance these profiles and no others",
		Example: "  cuib profile assign web default,small\n  cuib profile assign web '' --dry-run",
		Args:    kit.Needs(2, 2), ValidArgsFunction: e.Complete(kit.Instances, kit.Profiles, kit.None),
	}
	dry := kit.DryRun(cmd)
	cmd.RunE = kit.Named(1, func(cmd *cobra.Command, args []string) error {
		list := []string{}
		if args[1] != "" {
			list = strings.Split(args[1], ",")
		}
		return e.changeProfiles(cmd.Context(), args[0], dry, func([]string) ([]string, error) { return list, nil })
	})
	return cmd
}

func newProfileAdd(e *env) *cobra.Command {
	var dry *bool
	cmd := &cobra.Command{
		Use: "add INSTANCE PROFILE", Short: "Add a profile to an instance",
		Example: "  cuib profile add web small",
		Args:    kit.Needs(2, 2), ValidArgsFunction: e.Complete(kit.Instances, kit.Profiles, kit.None),
		RunE: kit.Named(-1, func(cmd *cobra.Command, args []string) error {
			return e.changeProfiles(cmd.Context(), args[0], dry, func(list []string) ([]string, error) {
				if slices.Contains(list, args[1]) {
					return nil, errs.Conflictf("instance %q has the profile %q already", args[0], args[1])
				}
				return append(list, args[1]), nil
			})
		}),
	}
	dry = kit.DryRun(cmd)
	return cmd
}

func newProfileRemove(e *env) *cobra.Command {
	var dry *bool
	cmd := &cobra.Command{
		Use: "remove INSTANCE PROFILE", Short: "Remove a profile from an instance",
		Example: "  cuib profile remove web small",
		Args:    kit.Needs(2, 2), ValidArgsFunction: e.Complete(kit.Instances, kit.Profiles, kit.None),
		RunE: kit.Named(-1, func(cmd *cobra.Command, args []string) error {
			return e.changeProfiles(cmd.Context(), args[0], dry, func(list []string) ([]string, error) {
				i := slices.Index(list, args[1])
				if i < 0 {
					return nil, errs.NotFoundf("instance %q does not have the profile %q", args[0], args[1])
				}
				return slices.Delete(list, i, i+1), nil
			})
		}),
	}
	dry = kit.DryRun(cmd)
	return cmd
}

func (e *env) changeProfiles(ctx context.Context, instance string, dry *bool, change func([]string) ([]string, error)) error {
	return e.changeInstance(ctx, instance, func(in *api.Instance) (err error) {
		in.Profiles, err = change(in.Profiles)
		return err
	}, e.instanceWriter(dry))
}
