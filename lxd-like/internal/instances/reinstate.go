package instances

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
)

// A Reinstatement says how an instance is made of a document.
type Reinstatement struct {
	Document api.Document   // Of an instance, and of the snapshots that are to be made with it.
	Name     string         // Another name than the document's, if it is not empty.
	Pool     string         // Another pool, if it is not empty.
	Config   api.ConfigMap  // Keys that are to be others; an empty value unsets one.
	Devices  api.DevicesMap // Devices that are to be others, whole.

	// Fill makes the volume and a snapshot of it for each of the document's.
	// What it makes and fails is removed by the caller.
	Fill func(ctx context.Context, d storage.Driver, v storage.Volume) error
}

// restored is an instance that is to be there again.
type restored struct {
	in        *instance
	snapshots []db.Snapshot // Oldest first.
	profiles  []db.Profile  // That it needs and that are not there.
}

// CheckReinstate reports why an instance cannot be made of a document. A
// request can be answered with it before there are files.
func (s *Service) CheckReinstate(ctx context.Context, r Reinstatement) error {
	_, err := s.reinstated(ctx, r)
	return err
}

// Reinstate makes an instance of a document, with its snapshots: all of it or
// nothing. It does not start it.
func (s *Service) Reinstate(ctx context.Context, r Reinstatement, _ *ops.Op) error {
	if r.Document.Instance == nil {
		return errNoInstance()
	}
	name := cmp.Or(r.Name, r.Document.Instance.Name)
	unlock := s.locks.Lock(name)
	defer unlock()
	back, err := s.reinstated(ctx, r)
	if err != nil {
		return err
	}
	if err := s.reinstate(ctx, back, r.Fill); err != nil {
		return fmt.Errorf("create instance %q: %w", name, s.withRoom(ctx, back.in.Pool, err))
	}
	return nil
}

// reinstate makes the records as pending, the volume, and then the instance
// ready.
func (s *Service) reinstate(ctx context.Context, back restored, fill func(context.Context, storage.Driver, storage.Volume) error) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	in := back.in
	if err := s.mustBeNew(ctx, in); err != nil {
		return err
	}
	if err := s.allot(in); err != nil {
		return err
	}
	s.name(ctx, in)
	u.Push("free the ids", func(context.Context) error { s.release(in.Name); return nil })

	if err := s.record(ctx, back); err != nil {
		return err
	}
	u.Push("forget the instance", func(ctx context.Context) error {
		return errors.Join(s.forget(ctx, in.Name), s.forgetProfiles(ctx, back.profiles))
	})
	d, err := s.driver(ctx, in)
	if err != nil {
		return err
	}
	u.Push("delete the root volume", func(ctx context.Context) error {
		return errors.Join(s.removeSnapshots(ctx, d, in), deleteVolumes(ctx, d, in.Name))
	})
	if err := fill(ctx, d, in.volume()); err != nil {
		return err
	}
	if err := s.tune(ctx, d, in); err != nil {
		return err
	}
	if err := s.keepSizeOf(ctx, d, in); err != nil {
		return err
	}
	if err := s.mark(ctx, in.Name, db.Ready); err != nil {
		return err
	}
	s.created(in)
	return nil
}

func (s *Service) created(in *instance) {
	s.event("instance-created", in.Name, map[string]any{"type": "container", "location": "none", "storage-pool": in.Pool})
}

// record adds all the records of an instance, in one transaction.
func (s *Service) record(ctx context.Context, back restored) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		for _, p := range back.profiles {
			if err := db.AddProfile(ctx, tx, &p); err != nil {
				return err
			}
		}
		row := back.in.Instance
		if err := db.AddInstance(ctx, tx, &row); err != nil {
			return err
		}
		for _, snap := range back.snapshots {
			if err := db.AddSnapshot(ctx, tx, &snap); err != nil {
				return err
			}
		}
		return nil
	})
}

// forgetProfiles deletes profiles that were made for an instance, but for
// those that another has by now.
func (s *Service) forgetProfiles(ctx context.Context, profs []db.Profile) error {
	for _, p := range profs {
		err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.DeleteProfile(ctx, tx, p.Name) })
		if err != nil && !errs.Is(err, errs.Conflict) && !errs.Is(err, errs.NotFound) {
			return err
		}
	}
	return nil
}

// Adopt registers an instance whose volume and snapshots are in its pool, that
// of the document, already. Nothing is made. It takes a configuration that
// does not fit this host: what is wrong with it is said when it starts.
func (s *Service) Adopt(ctx context.Context, doc api.Document) error {
	if doc.Instance == nil {
		return errNoInstance()
	}
	if doc.Pool == nil {
		return errs.Invalidf("the document of instance %q names no storage pool", doc.Instance.Name)
	}
	unlock := s.locks.Lock(doc.Instance.Name)
	defer unlock()
	back, err := s.returned(ctx, Reinstatement{Document: doc, Pool: doc.Pool.Name})
	if err != nil {
		return err
	}
	in := back.in
	in.Status = db.Ready
	in.Config[keyPower] = doc.Instance.Config[keyPower]
	if in.Ephemeral && in.Config[keyPower] != powerOn || in.Config[keyPower] == "" {
		delete(in.Config, keyPower) // One that has stopped would be deleted.
	}
	if err := s.allot(in); err != nil {
		s.Logger.WarnContext(ctx, "an instance that was found gets its ids when it starts", "instance", in.Name, "err", err)
	}
	s.name(ctx, in)
	if err := s.record(db.Admitted(ctx), back); err != nil {
		s.release(in.Name)
		return fmt.Errorf("register instance %q: %w", in.Name, err)
	}
	if err := s.letGo(ctx, in); err != nil {
		s.Logger.WarnContext(ctx, "an instance that was found is mounted", "instance", in.Name, "err", err)
	}
	s.created(in)
	return nil
}

// letGo unmounts the root of an instance that does not run. It can have run
// until the daemon ended it that knew nothing of it, nor where its root was.
func (s *Service) letGo(ctx context.Context, in *instance) error {
	d, err := s.driver(ctx, in)
	if err != nil || s.index.get(in.Name) != nil {
		return err
	}
	return d.Unmount(ctx, in.volume())
}

func errNoInstance() error { return errs.Invalidf("the document is of no instance") }

// reinstated is [Service.returned], checked as a new instance is. What its
// devices want of the host is not looked at before it starts.
func (s *Service) reinstated(ctx context.Context, r Reinstatement) (restored, error) {
	back, err := s.returned(ctx, r)
	if err != nil {
		return back, err
	}
	for _, p := range back.profiles {
		err := profiles.ValidateProfile(profiles.Config{Options: p.Config, Devices: p.Devices})
		if err != nil {
			return back, fmt.Errorf("profile %q: %w", p.Name, err)
		}
	}
	return back, s.validateOptions(ctx, back.in)
}

// returned is the instance of a document.
func (s *Service) returned(ctx context.Context, r Reinstatement) (restored, error) {
	var back restored
	doc := r.Document.Instance
	switch {
	case doc == nil:
		return back, errNoInstance()
	case doc.Type != "" && doc.Type != "container":
		return back, errs.Newf(errs.Unsupported, "instance %q is of type %q: this server runs containers only", doc.Name, doc.Type)
	}
	name := cmp.Or(r.Name, doc.Name)
	if err := profiles.CheckInstanceName(name); err != nil {
		return back, err
	}
	if err := s.free(ctx, name); err != nil {
		return back, err
	}
	back.in = &instance{Instance: db.Instance{
		Name: name, Status: db.Pending, Architecture: doc.Architecture, Description: doc.Description, Ephemeral: doc.Ephemeral,
		Profiles: orEmpty(doc.Profiles), Created: doc.CreatedAt, LastUsed: doc.LastUsedAt,
		Config: returnedConfig(doc.Config, r.Config), Devices: givenDevices(doc.Devices),
	}}
	maps.Copy(back.in.Devices, givenDevices(r.Devices))
	if err := checkArchitecture(&back.in.Architecture); err != nil {
		return back, err
	}
	if err := s.returnedIdentity(ctx, back.in, doc); err != nil {
		return back, err
	}
	if err := s.returnedProfiles(ctx, &back, r.Document.Profiles); err != nil {
		return back, err
	}
	if err := s.returnedRoot(ctx, back.in, r); err != nil {
		return back, err
	}
	var err error
	if back.snapshots, err = returnedSnapshots(name, doc.Name, r.Document.Snapshots); err != nil {
		return back, err
	}
	return back, s.choosePool(ctx, back.in)
}

// returnedConfig is the configuration of an instance of a document. What
// another daemon remembers of it is left out, but for what it is.
func returnedConfig(config, changes api.ConfigMap) map[string]string {
	out := given(config)
	maps.DeleteFunc(out, func(k, _ string) bool {
		return isInternal(k) && k != keyBaseImage && k != keyApplyTemplate && k != keyRootSize
	})
	for k, v := range changes {
		switch {
		case v == "":
			delete(out, k)
		case !isInternal(k):
			out[k] = v
		}
	}
	return out
}

// returnedIdentity gives an instance its identity back, if nobody else has it
// by now: who made a copy of it has another, as one with another name has.
func (s *Service) returnedIdentity(ctx context.Context, in *instance, doc *api.Instance) error {
	ids, macs := map[string]bool{}, map[string]bool{}
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		rows, err := db.Instances(ctx, tx)
		for _, row := range rows {
			ids[row.Config[keyUUID]] = true
			for k, v := range row.Config {
				if strings.HasSuffix(k, ".hwaddr") {
					macs[strings.ToLower(v)] = true
				}
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	maps.DeleteFunc(in.Config, func(k, v string) bool {
		// The end on the host is made at each start, and has a name then.
		return isNICKey(k) && (strings.HasSuffix(k, ".host_name") || strings.HasSuffix(k, ".hwaddr") && macs[strings.ToLower(v)])
	})
	if id := doc.Config[keyUUID]; in.Name == doc.Name && id != "" && !ids[id] {
		for _, k := range []string{keyUUID, keyGeneration, keyCloudInitID} {
			in.apply(map[string]string{k: doc.Config[k]})
		}
		return nil
	}
	in.apply(newIdentity())
	if in.Config[keyApplyTemplate] == "" {
		in.apply(map[string]string{keyApplyTemplate: "copy"})
	}
	return nil
}

// returnedProfiles expands an instance by its profiles: those that are there,
// and those of its document for the others.
func (s *Service) returnedProfiles(ctx context.Context, back *restored, docs []api.Profile) error {
	var all []db.Profile
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		all, err = db.Profiles(ctx, tx)
		return err
	})
	if err != nil {
		return err
	}
	byName := profilesByName(all)
	for _, name := range back.in.Profiles {
		if _, ok := byName[name]; ok {
			continue
		}
		i := slices.IndexFunc(docs, func(p api.Profile) bool { return p.Name == name })
		if i < 0 {
			return errs.Invalidf("profile %q not found, and the document does not have it", name)
		}
		if err := profiles.CheckProfileName(name); err != nil {
			return err
		}
		p := newProfile(name, docs[i].ProfilePut)
		byName[name], back.profiles = p, append(back.profiles, p)
	}
	back.in.expanded = expand(back.in.own(), choose(byName, back.in.Profiles))
	return nil
}

// returnedRoot finds where the root disk is to be: in the pool that is asked
// for, in that of the document, or where this server has its instances.
func (s *Service) returnedRoot(ctx context.Context, in *instance, r Reinstatement) error {
	name, disk, ok := root(in.expanded)
	if !ok {
		name, disk, ok = root(profiles.Config{Devices: givenDevices(r.Document.Instance.ExpandedDevices)})
	}
	if !ok {
		name, disk = "root", rootIn("")
	}
	pool := cmp.Or(r.Pool, disk["pool"])
	if r.Pool == "" {
		var err error
		if pool, err = s.usualPool(ctx, pool); err != nil {
			return err
		}
	}
	if in.expanded.Devices[name]["pool"] == pool {
		return nil
	}
	was := disk
	disk = maps.Clone(disk)
	disk["pool"] = pool
	in.Devices = maps.Clone(in.Devices)
	in.Devices[name], in.expanded.Devices[name] = disk, disk
	left, err := s.fitRoot(ctx, in, was)
	s.warnLeft(ctx, in, left, nil)
	return err
}

// usualPool returns the pool if it is there, and otherwise the one that new
// instances get; it makes that on a server that was not set up.
func (s *Service) usualPool(ctx context.Context, pool string) (string, error) {
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := db.GetPool(ctx, tx, pool)
		return err
	})
	if err == nil || !errs.Is(err, errs.NotFound) {
		return pool, err
	}
	unlock := s.locks.Lock(lockDefaults)
	defer unlock()
	if pool, err = s.obviousPool(ctx); err != nil || pool != "" {
		return pool, err
	}
	return s.firstUse(ctx, "")
}

// returnedSnapshots are the snapshots of a document, oldest first. Some peers
// write the instance's name, was, before theirs.
func returnedSnapshots(instance, was string, docs []api.InstanceSnapshot) ([]db.Snapshot, error) {
	out := make([]db.Snapshot, 0, len(docs))
	names := make([]string, 0, len(docs))
	for _, doc := range docs {
		name := strings.TrimPrefix(doc.Name, was+"/")
		if err := profiles.CheckSnapshotName(name); err != nil {
			return nil, err
		}
		names = append(names, name)
		out = append(out, db.Snapshot{
			Instance: instance, Name: name, Status: db.Ready, Architecture: doc.Architecture, Description: doc.Description,
			Ephemeral: doc.Ephemeral, Config: given(doc.Config), Devices: givenDevices(doc.Devices), Profiles: doc.Profiles,
			Created: doc.CreatedAt, LastUsed: doc.LastUsedAt, Expires: doc.ExpiresAt,
		})
	}
	slices.SortStableFunc(out, func(a, b db.Snapshot) int { return a.Created.Compare(b.Created) })
	return out, noDuplicates("snapshot", names)
}
