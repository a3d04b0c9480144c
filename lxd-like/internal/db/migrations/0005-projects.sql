-- Whose objects are whose is in their names: see package project.
CREATE TABLE projects (
	id          INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
	name        TEXT NOT NULL UNIQUE,
	description TEXT NOT NULL,
	config      TEXT NOT NULL,
	created     INTEGER NOT NULL
);
INSERT INTO projects (name, description, config, created) VALUES ('default', 'Default project',
	'{"features.images":"true","features.networks":"true","features.networks.zones":"true","features.profiles":"true","features.storage.buckets":"true","features.storage.volumes":"true"}', 0);
