-- The same image can be in several projects, which share its files and its
-- unpacked volumes.
CREATE TABLE project_images (
	id           INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
	project      TEXT NOT NULL,
	fingerprint  TEXT NOT NULL,
	filename     TEXT NOT NULL,
	size         INTEGER NOT NULL,
	public       INTEGER NOT NULL,
	auto_update  INTEGER NOT NULL,
	cached       INTEGER NOT NULL,
	architecture TEXT NOT NULL,
	properties   TEXT NOT NULL,
	profiles     TEXT NOT NULL, -- Names, as a JSON array.
	source       TEXT NOT NULL, -- What it was built from, such as "debian:bookworm"; empty if it was not built.
	status       TEXT NOT NULL,
	created      INTEGER NOT NULL,
	expires      INTEGER NOT NULL,
	uploaded     INTEGER NOT NULL,
	last_used    INTEGER NOT NULL,
	UNIQUE (project, fingerprint)
);
INSERT INTO project_images (id, project, fingerprint, filename, size, public, auto_update, cached, architecture,
	properties, profiles, source, status, created, expires, uploaded, last_used)
	SELECT id, 'default', fingerprint, filename, size, public, auto_update, cached, architecture,
	properties, profiles, source, status, created, expires, uploaded, last_used FROM images;
CREATE TABLE project_image_aliases (
	project     TEXT NOT NULL,
	name        TEXT NOT NULL,
	image_id    INTEGER NOT NULL REFERENCES project_images (id) ON DELETE CASCADE,
	description TEXT NOT NULL,
	PRIMARY KEY (project, name)
);
-- "%" is between the project and the name of a key.
INSERT OR IGNORE INTO project_image_aliases (project, name, image_id, description)
	SELECT 'default', replace(name, '%', '_'), image_id, description FROM image_aliases ORDER BY instr(name, '%') > 0, name;
DROP TABLE image_aliases;
DROP TABLE images;
ALTER TABLE project_images RENAME TO images;
ALTER TABLE project_image_aliases RENAME TO image_aliases;
CREATE INDEX images_fingerprint ON images (fingerprint);
CREATE INDEX images_source ON images (source);
CREATE INDEX image_aliases_image ON image_aliases (image_id);
