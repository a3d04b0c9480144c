-- What a project has is found without a look at what others have. Statements
-- use the indexes if they say it in the same words.
CREATE INDEX instances_project ON instances (CASE instr(name, '_') WHEN 0 THEN 'default' ELSE substr(name, 1, instr(name, '_') - 1) END);
CREATE INDEX volumes_project ON volumes (CASE instr(name, '%') WHEN 0 THEN 'default' ELSE substr(name, 1, instr(name, '%') - 1) END);
CREATE INDEX networks_project ON networks (CASE instr(name, '%') WHEN 0 THEN 'default' ELSE substr(name, 1, instr(name, '%') - 1) END);
CREATE INDEX profiles_project ON profiles (CASE instr(name, '%') WHEN 0 THEN 'default' ELSE substr(name, 1, instr(name, '%') - 1) END);
